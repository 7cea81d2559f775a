;; S2: few instructions that each move much memory.
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (loop $again
    (memory.fill (i32.const 65536) (i32.const 7) (i32.const 65536))
    (br $again))
  unreachable)
