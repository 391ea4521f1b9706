// The kernels of the CUDA executor: one formula a kernel, each that of `reference.rs`.
//
// This file holds nothing but plain C++ and the block's shared memory, so that tests/cuda/emulator.cpp can compile
// this very file for the processor and run it, thread by thread, where there is no GPU.
//
// Maps are `[rows][channels][height][width]`, or `[rows][height][width][channels]` where `last` is set; a vector is a
// map of one pixel. Values are f32 or bf16; sums, statistics, weights' gradients and everything by channel are f32.
// A kernel that writes a gradient adds to what is there if `add` is set.

// Compiled twice: VALUE is float or Bf16, and NAMED(name) is name_f32 or name_bf16.

#include "kernels/map.cuh"
#include "kernels/order.cuh"
#include "kernels/norm.cuh"
#include "kernels/shares.cuh"
#include "kernels/values.cuh"
#include "kernels/places.cuh"
#include "kernels/optimizer.cuh"
#include "kernels/fold.cuh"
#include "kernels/images.cuh"
#include "kernels/measures.cuh"
#include "kernels/rows.cuh"
