// Attention with float32's multiply-adds, whatever the tensors hold: the largest part of a library, and the same in those
// of avx512 and avx512_bf16, which share it.
#include "backward.hpp"
#include "forward.hpp"
#include "ways.hpp"

int single_forward(const gs_attention &call) { return is_narrow(call) ? forward<2, Single>(call) : forward<3, Single>(call); }

int single_backward(const gs_attention &call) {
    return is_narrow(call) ? backward<2, Single>(call) : backward<3, Single>(call);
}
