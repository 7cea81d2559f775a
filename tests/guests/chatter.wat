;; S12: logs without end.
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (loop $again
    (call $log (i32.const 2) (i32.const 1024) (i32.const 32))
    (br $again))
  unreachable)
