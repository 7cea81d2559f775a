;; S11: keeps a record that is not there.
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (i32.store (i32.const 400) (i32.load offset=12 (local.get $batch)))
  (call $selection (i32.const 400) (i32.const 1)))
