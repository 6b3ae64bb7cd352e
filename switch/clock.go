package vswitch

import "time"

// start gives the monotonic clock its origin: time.Since reads the kernel's
// clock through the vDSO, without a system call. One second is added so that
// no reading is 0, which means "never" in timers.
var start = time.Now().Add(-time.Second)

func runtimeNano() int64 { return int64(time.Since(start)) }
