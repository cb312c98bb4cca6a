// Attention with bfloat16's dot products.
#include "backward.hpp"
#include "forward.hpp"
#include "ways.hpp"

int pairs_forward(const gs_attention &call) { return is_narrow(call) ? forward<2, Pair>(call) : forward<3, Pair>(call); }

int pairs_backward(const gs_attention &call) {
    return is_narrow(call) ? backward<2, Pair>(call) : backward<3, Pair>(call);
}
