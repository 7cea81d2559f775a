;; S6: makes a table as large as it gets, then gives up.
(table $many 1 funcref)
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (loop $again
    (br_if $again (i32.ne (i32.const -1) (table.grow $many (ref.null func) (i32.const 4096)))))
  unreachable)
