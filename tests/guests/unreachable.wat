;; S13: cannot go on.
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  unreachable)
