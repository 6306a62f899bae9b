#include "@name@.h"

#include <float.h>
#include <limits.h>
#include <stddef.h>

#if INT_MAX < 2147483647 || FLT_MANT_DIG != 24 || DBL_MANT_DIG != 53 || FLT_EVAL_METHOD == 2
#error "expected int of 32 bits, and float and double of IEEE 754 (for x87: -msse2 -mfpmath=sse)"
#endif
#ifndef @NAME@_TABLE
#define @NAME@_TABLE
#endif
#ifndef @NAME@_ARENA
#define @NAME@_ARENA
#endif
#ifdef @NAME@_PROFILE
#define DONE(op) @name@_op_done(#op)
#else
#define DONE(op) ((void)0)
#endif
