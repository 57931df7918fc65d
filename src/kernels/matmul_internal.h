// Matmul with the instruction set chosen by the caller: for tests, which try every one of them in one program, and for
// benchmarks. Private to the kernels room.
#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/matmul.h"

namespace fathom {

Status SetActivations(const KernelTable& kernels, MatrixView<const float> x, bool quantize, ThreadPool& pool,
                      Activations& out);
void MatmulWith(const KernelTable& kernels, std::span<const MatmulJob> jobs, MatmulWorkspace& workspace,
                ThreadPool& pool);

}  // namespace fathom
