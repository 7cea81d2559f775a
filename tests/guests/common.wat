;; What every guest here begins with: the imports, a memory, an allocator that never frees, and a lifecycle. The text
;; stands at the head of each guest's own; DESCRIBED and its LENGTH are filled in by the test.
(import "tidegate:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
(import "tidegate:plugin/host@0.1.0" "count" (func $count (param i32 i32 i64)))
(import "tidegate:plugin/host@0.1.0" "panicked" (func $panicked (param i32 i32 i32 i32 i32 i32)))
(import "tidegate:plugin/host@0.1.0" "lookup" (func $lookup (param i32 i32 i32 i32 i32 i32 i32)))
(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
(import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
(memory (export "memory") 2)
(global $top (mut i32) (i32.const 65536))
(data (i32.const 1024) "DESCRIBED")

(func $realloc (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $size i32) (result i32)
  (local $at i32)
  (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
  (global.set $top (i32.add (local.get $at) (local.get $size)))
  (block $fits
    (br_if $fits (i32.le_u (global.get $top) (i32.shl (memory.size) (i32.const 16))))
    (br_if $fits (i32.ne (i32.const -1) (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1)))))
    unreachable)
  (memory.copy (local.get $at) (local.get $old) (local.get $had))
  (local.get $at))

(func (export "tidegate:plugin/lifecycle@0.1.0#describe") (result i32)
  (i32.store (i32.const 256) (i32.const 1024))
  (i32.store (i32.const 260) (i32.const LENGTH))
  (i32.const 256))

;; Refuses a config that begins with a quote, with the config as the reason.
(func (export "tidegate:plugin/lifecycle@0.1.0#configure") (param $at i32) (param $length i32) (result i32)
  (i32.store8 (i32.const 272) (i32.eq (i32.load8_u (local.get $at)) (i32.const 34)))
  (i32.store (i32.const 276) (local.get $at))
  (i32.store (i32.const 280) (local.get $length))
  (i32.const 272))

;; A selection of the positions at $at, nothing refused, as it lies at 512.
(func $selection (param $at i32) (param $count i32) (result i32)
  (memory.fill (i32.const 512) (i32.const 0) (i32.const 32))
  (i32.store (i32.const 512) (local.get $at))
  (i32.store (i32.const 516) (local.get $count))
  (i32.const 512))

;; A selection of every record of the batch at $batch.
(func $keep_all (param $batch i32) (result i32)
  (local $count i32) (local $at i32) (local $i i32)
  (local.set $count (i32.load offset=12 (local.get $batch)))
  (local.set $at (call $realloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.shl (local.get $count) (i32.const 2))))
  (block $done
    (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $count)))
      (i32.store (i32.add (local.get $at) (i32.shl (local.get $i) (i32.const 2))) (local.get $i))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
  (call $selection (local.get $at) (local.get $count)))
