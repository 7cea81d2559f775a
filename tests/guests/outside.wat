;; S13: reads beyond its memory.
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (i32.load (i32.const -8)))
