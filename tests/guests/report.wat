;; Logs one line and counts once, then does as the first byte of the first value says: "!" traps, all else keeps all.
(data (i32.const 300) "seen")
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (call $log (i32.const 3) (i32.const 300) (i32.const 4))
  (call $count (i32.const 300) (i32.const 4) (i64.const 2))
  (if (i32.eq (i32.load8_u (i32.load (local.get $batch))) (i32.const 33)) (then unreachable))
  (call $keep_all (local.get $batch)))
