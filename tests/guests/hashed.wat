;; P11: a filter that keeps every other record, the even or the odd ones by a number that it draws at its first call and raises
;; at each: as the order of a `HashMap` of Rust's library depends on how many were made before.
(global $drawn (mut i32) (i32.const 0))
(global $key (mut i32) (i32.const 0))
(func (export "tidegate:plugin/filtering@0.1.0#filter") (param $batch i32) (result i32)
  (local $count i32) (local $at i32) (local $i i32) (local $kept i32)
  (if (i32.eqz (global.get $drawn))
    (then
      (drop (call $random_get (i32.const 400) (i32.const 4)))
      (global.set $key (i32.load (i32.const 400)))
      (global.set $drawn (i32.const 1))))
  (global.set $key (i32.add (global.get $key) (i32.const 1)))
  (local.set $count (i32.load offset=12 (local.get $batch)))
  (local.set $at (call $realloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.shl (local.get $count) (i32.const 2))))
  (block $done
    (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $count)))
      (if (i32.and (i32.add (local.get $i) (global.get $key)) (i32.const 1))
        (then
          (i32.store (i32.add (local.get $at) (i32.shl (local.get $kept) (i32.const 2))) (local.get $i))
          (local.set $kept (i32.add (local.get $kept) (i32.const 1)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
  (call $selection (local.get $at) (local.get $kept)))
