;; Panics as the SDK's hook does: last words, something on standard error, then unreachable.
(data (i32.const 300) "no status in record src/lib.rs:12")
(data (i32.const 340) "on the way down")
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (i32.store (i32.const 400) (i32.const 340))
  (i32.store (i32.const 404) (i32.const 15))
  (drop (call $fd_write (i32.const 2) (i32.const 400) (i32.const 1) (i32.const 408)))
  (call $panicked (i32.const 1) (i32.const 3) (i32.const 300) (i32.const 19) (i32.const 320) (i32.const 13))
  unreachable)
