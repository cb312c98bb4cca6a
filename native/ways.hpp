// The ways of computing that a library has, each compiled for itself.
#pragma once
#include "gossamer_attention.h"
#include "vectors.hpp"

namespace {

// Narrow bands and few queries waste what a wide tile computes beside them.
inline bool is_narrow(const gs_attention &call) {
    return call.band_high - call.band_low < 160 || call.queries.rows <= 2 * LANES;
}

}  // namespace

int single_forward(const gs_attention &call);
int single_backward(const gs_attention &call);
int pairs_forward(const gs_attention &call);
int pairs_backward(const gs_attention &call);
