;; S11: gives back a list that lies outside its memory.
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (call $selection (i32.const 65536) (i32.const 0x10000000)))
