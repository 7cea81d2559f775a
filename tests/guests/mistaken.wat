;; S13: calls a function as what it is not.
(type $other (func (param f64)))
(table 1 funcref)
(elem (i32.const 0) $keep_all)
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (call_indirect (type $other) (f64.const 1) (i32.const 0))
  unreachable)
