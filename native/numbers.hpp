// Rows of numbers as they are stored, and as float32.
#pragma once
#include "gossamer_attention.h"
#include "vectors.hpp"

namespace {

INLINE int type_size(int type) { return type == GS_FLOAT32 ? 4 : 2; }

INLINE float from_bfloat16(uint16_t x) {
    uint32_t bits = uint32_t(x) << 16;
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
}

INLINE uint16_t to_bfloat16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return uint16_t(bits >> 16) | 0x40;
    return uint16_t((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

INLINE float from_float16(uint16_t x) {
    _Float16 half;
    std::memcpy(&half, &x, 2);
    return float(half);
}

INLINE uint16_t to_float16(float x) {
    _Float16 half = _Float16(x);
    uint16_t out;
    std::memcpy(&out, &half, 2);
    return out;
}

typedef uint16_t vh __attribute__((vector_size(2 * LANES)));

// LANES numbers of 16 bits as float32.
INLINE vf widen(const uint16_t *from, int type) {
    vh x;
    std::memcpy(&x, from, sizeof x);
    if (type == GS_BFLOAT16) return reinterpret(vi(__builtin_convertvector(x, vu) << 16));
#if defined(__AVX512F__)
    return (vf)_mm512_cvtph_ps((__m256i)x);
#elif defined(__AVX2__)
    return (vf)_mm256_cvtph_ps((__m128i)x);
#else
    vf out;
    for (int i = 0; i < LANES; i++) out[i] = from_float16(x[i]);
    return out;
#endif
}

// `size` numbers of any type as float32, then zeros up to `padded`.
INLINE void read_row(const void *from, int type, int64_t size, int64_t padded, float *to) {
    if (type == GS_FLOAT32) {
        std::memcpy(to, from, size * 4);
    } else {
        const uint16_t *x = static_cast<const uint16_t *>(from);
        int64_t d = 0;
        for (; d + LANES <= size; d += LANES) store(to + d, widen(x + d, type));
        for (; d < size; d++) to[d] = type == GS_BFLOAT16 ? from_bfloat16(x[d]) : from_float16(x[d]);
    }
    for (int64_t d = size; d < padded; d++) to[d] = 0.0f;
}

inline void write_row(const float *from, int type, int64_t size, char *to) {
    if (type == GS_FLOAT32) {
        std::memcpy(to, from, size * 4);
    } else {
        uint16_t *out = reinterpret_cast<uint16_t *>(to);
        for (int64_t d = 0; d < size; d++) out[d] = type == GS_BFLOAT16 ? to_bfloat16(from[d]) : to_float16(from[d]);
    }
}

// The sum of the products of two rows' numbers.
INLINE float dot_rows(const void *left, const void *right, int type, int64_t size) {
    const char *x = static_cast<const char *>(left), *y = static_cast<const char *>(right);
    const int64_t step = LANES * type_size(type), whole = size / LANES * LANES;
    const auto full = [type](const char *at) __attribute__((always_inline)) {
        return type == GS_FLOAT32 ? load(reinterpret_cast<const float *>(at)) : widen(reinterpret_cast<const uint16_t *>(at), type);
    };
    vf sums{};
    for (int64_t d = 0; d < whole; d += LANES, x += step, y += step) sums += full(x) * full(y);
    if (whole < size) {
        float a[LANES], b[LANES];
        read_row(x, type, size - whole, LANES, a);
        read_row(y, type, size - whole, LANES, b);
        sums += load(a) * load(b);
    }
    float sum = 0.0f;
    for (int i = 0; i < LANES; i++) sum += sums[i];
    return sum;
}

}  // namespace
