;; Wants to wait for a second of the monotonic clock.
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (memory.fill (i32.const 400) (i32.const 0) (i32.const 96))
  (i32.store (i32.const 416) (i32.const 1))
  (i64.store (i32.const 424) (i64.const 1000000000))
  (drop (call $poll_oneoff (i32.const 400) (i32.const 600) (i32.const 1) (i32.const 460)))
  (call $keep_all (local.get $batch)))
