;; Behaves: keeps everything.
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (call $keep_all (local.get $batch)))
