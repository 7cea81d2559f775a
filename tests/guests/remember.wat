;; S15: logs what an earlier call left at 404, leaves its first value there, and traps if that begins with "!".
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (call $log (i32.const 2) (i32.const 404) (i32.const 4))
  (i32.store (i32.const 404) (i32.or (i32.load (i32.load (local.get $batch))) (i32.const 0x20202020)))
  (if (i32.eq (i32.load8_u (i32.load (local.get $batch))) (i32.const 33)) (then unreachable))
  (call $keep_all (local.get $batch)))
