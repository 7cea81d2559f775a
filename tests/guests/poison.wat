;; T10: keeps every record, unless one begins with a letter that says which misdeed it brings about.
(data (i32.const 300) "no status in record src/lib.rs:12")
(table $many 1 funcref)
(func $deeper (param i32) (result i32)
  (i32.add (call $deeper (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (local $count i32) (local $i i32) (local $start i32) (local $first i32)
  (local.set $count (i32.load offset=12 (local.get $batch)))
  (block $done
    (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $count)))
      (local.set $first (i32.load8_u (i32.add (i32.load (local.get $batch)) (local.get $start))))
      ;; s: never comes back.
      (if (i32.eq (local.get $first) (i32.const 115)) (then (loop $again (br $again))))
      ;; f: few instructions that each move much memory.
      (if (i32.eq (local.get $first) (i32.const 102))
        (then (loop $again (memory.fill (i32.const 65536) (i32.const 7) (i32.const 65536)) (br $again))))
      ;; r: calls itself for ever.
      (if (i32.eq (local.get $first) (i32.const 114)) (then (drop (call $deeper (i32.const 0)))))
      ;; p: panics and names the record. w: names the one that is not there. n: names none.
      (if (i32.eq (local.get $first) (i32.const 112))
        (then
          (call $panicked (i32.const 1) (local.get $i) (i32.const 300) (i32.const 19) (i32.const 320) (i32.const 13))
          unreachable))
      (if (i32.eq (local.get $first) (i32.const 119))
        (then
          (call $panicked (i32.const 1) (local.get $count) (i32.const 300) (i32.const 19) (i32.const 320) (i32.const 13))
          unreachable))
      (if (i32.eq (local.get $first) (i32.const 110)) (then unreachable))
      ;; d: divides by nothing. o: reads beyond its memory. e: ends the process that it believes it is.
      (if (i32.eq (local.get $first) (i32.const 100)) (then (drop (i32.div_u (i32.const 1) (i32.const 0)))))
      (if (i32.eq (local.get $first) (i32.const 111)) (then (drop (i32.load (i32.const -8)))))
      (if (i32.eq (local.get $first) (i32.const 101)) (then (call $proc_exit (i32.const 1))))
      ;; t: makes a table as large as it gets. h: takes memory until it gets none.
      (if (i32.eq (local.get $first) (i32.const 116))
        (then
          (loop $again (br_if $again (i32.ne (i32.const -1) (table.grow $many (ref.null func) (i32.const 4096)))))
          unreachable))
      (if (i32.eq (local.get $first) (i32.const 104))
        (then
          (loop $again (br_if $again (i32.ne (i32.const -1) (memory.grow (i32.const 16)))))
          unreachable))
      ;; l: gives back 32 MiB. b: keeps a record that is not there. c: logs without end.
      (if (i32.eq (local.get $first) (i32.const 108))
        (then
          (drop (memory.grow (i32.const 512)))
          (return (call $selection (i32.const 65536) (i32.const 0x800000)))))
      (if (i32.eq (local.get $first) (i32.const 98))
        (then
          (i32.store (i32.const 400) (local.get $count))
          (return (call $selection (i32.const 400) (i32.const 1)))))
      (if (i32.eq (local.get $first) (i32.const 99))
        (then (loop $again (call $log (i32.const 2) (i32.const 1024) (i32.const 32)) (br $again))))
      (local.set $start
        (i32.load (i32.add (i32.load offset=8 (local.get $batch)) (i32.shl (local.get $i) (i32.const 2)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
  (call $keep_all (local.get $batch)))
