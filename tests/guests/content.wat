;; S4: takes memory until it gets none, and does without.
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (loop $again
    (br_if $again (i32.ne (i32.const -1) (memory.grow (i32.const 16)))))
  (call $keep_all (local.get $batch)))
