;; S12: writes to standard output without end.
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (i32.store (i32.const 400) (i32.const 65536))
  (i32.store (i32.const 404) (i32.const 65536))
  (loop $again
    (drop (call $fd_write (i32.const 1) (i32.const 400) (i32.const 1) (i32.const 408)))
    (br $again))
  unreachable)
