;; S1: never comes back.
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (loop $again (br $again))
  unreachable)
