;; S12: counts under a new name each time.
(global $name (mut i32) (i32.const 0))
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (loop $again
    (global.set $name (i32.add (global.get $name) (i32.const 1)))
    (i32.store (i32.const 400) (i32.or (i32.const 0x40404040) (i32.and (global.get $name) (i32.const 0x0f0f0f0f))))
    (call $count (i32.const 400) (i32.const 4) (i64.const 1))
    (br_if $again (i32.lt_u (global.get $name) (i32.const 4096))))
  (call $keep_all (local.get $batch)))
