// Vectors of as many lanes as the instruction set has, in the compiler's own vector types: the same source serves all.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * LANES)));

#define UNROLL _Pragma("GCC unroll 64")
#define INLINE inline __attribute__((always_inline))

INLINE vf splat(float x) { return x - vf{}; }
INLINE vi splat(int32_t x) { return x - vi{}; }

INLINE vf load(const float *p) {
    vf x;
    std::memcpy(&x, p, sizeof x);
    return x;
}

INLINE void store(float *p, vf x) { std::memcpy(p, &x, sizeof x); }

// As the instructions do: the second where either is no number.
INLINE vf maximum(vf a, vf b) {
#if defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return a > b ? a : b;
#endif
}

INLINE vf choose(vi mask, vf a, vf b) { return mask ? a : b; }

INLINE vf reinterpret(vi x) {
    vf out;
    std::memcpy(&out, &x, sizeof out);
    return out;
}

INLINE vi reinterpret(vf x) {
    vi out;
    std::memcpy(&out, &x, sizeof out);
    return out;
}

// Keeps the compiler from knowing what a pointer was computed from.
template <typename T>
INLINE void hide(const T *&p) { asm("" : "+r"(p)); }

// 2^x to a relative error of 2e-7 for x <= 0, 0 where that is below float32's numbers. A NaN stays one. 2^0 is exactly 1: sums
// are multiplied by it block after block, and an error would grow with the text.
INLINE vf exp2_below_one(vf x) {
#if defined(__AVX512F__)
    vf f = (vf)_mm512_reduce_ps((__m512)x, 0x09);  // x less its floor, and 0 for infinities
    vf p = f * splat(1.866952516e-03f) + splat(9.017480537e-03f);
    p = p * f + splat(5.579951406e-02f);
    p = p * f + splat(2.401645929e-01f);
    p = p * f + splat(6.931512952e-01f);
    p = p * f + splat(1.0f);
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)x);  // takes the floor itself
#else
    const vf magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to whole numbers
    x = maximum(splat(-126.0f * 2), x);
    vf shifted = x + magic;
    vf whole = shifted - magic;
    vf f = x - whole;
    vf p = splat(1.326940721e-03f);
    p = p * f + splat(9.671294130e-03f);
    p = p * f + splat(5.550711229e-02f);
    p = p * f + splat(2.402224690e-01f);
    p = p * f + splat(6.931470037e-01f);
    p = p * f + splat(1.0f);
    // Unsigned: far below, where the result is 0 anyway, this runs over.
    vf scaled = reinterpret(vi(vu(reinterpret(p)) + (vu(reinterpret(shifted)) << 23)));
    return choose(whole < -126.0f, vf{}, scaled);
#endif
}

// log2(x) to a few units in the last place, for normal x above 0; by the series of the inverse hyperbolic tangent.
INLINE vf log2_of(vf x) {
    vi bits = reinterpret(x);
    vi exponent = (bits - splat(int32_t(0x3f3504f3))) >> 23;  // of 1 to sqrt(2) either way
    vf m = reinterpret(bits - (exponent << 23));
    vf s = (m - splat(1.0f)) / (m + splat(1.0f)), t = s * s;
    vf p = splat(0.320598597f);       // 2 / (9 ln 2)
    p = p * t + splat(0.412198577f);  // 2 / (7 ln 2)
    p = p * t + splat(0.577078016f);
    p = p * t + splat(0.961796693f);
    p = p * t + splat(2.885390043f);
    return p * s + __builtin_convertvector(exponent, vf);
}

#if defined(__AVX512F__)
INLINE vf interleave_low(vf a, vf b) { return (vf)_mm512_unpacklo_ps((__m512)a, (__m512)b); }
INLINE vf interleave_high(vf a, vf b) { return (vf)_mm512_unpackhi_ps((__m512)a, (__m512)b); }
INLINE vf pair_low(vf a, vf b) { return (vf)_mm512_unpacklo_pd((__m512d)a, (__m512d)b); }
INLINE vf pair_high(vf a, vf b) { return (vf)_mm512_unpackhi_pd((__m512d)a, (__m512d)b); }

template <typename From>
INLINE vf every_fourth(From from, int i, int d) {
    __m512 x = _mm512_castps128_ps512(_mm_loadu_ps(from(i) + d));
    x = _mm512_mask_broadcast_f32x4(x, 0x00f0, _mm_loadu_ps(from(i + 4) + d));
    x = _mm512_mask_broadcast_f32x4(x, 0x0f00, _mm_loadu_ps(from(i + 8) + d));
    return (vf)_mm512_mask_broadcast_f32x4(x, 0xf000, _mm_loadu_ps(from(i + 12) + d));
}
#elif defined(__AVX2__)
INLINE vf interleave_low(vf a, vf b) { return (vf)_mm256_unpacklo_ps((__m256)a, (__m256)b); }
INLINE vf interleave_high(vf a, vf b) { return (vf)_mm256_unpackhi_ps((__m256)a, (__m256)b); }
INLINE vf pair_low(vf a, vf b) { return (vf)_mm256_unpacklo_pd((__m256d)a, (__m256d)b); }
INLINE vf pair_high(vf a, vf b) { return (vf)_mm256_unpackhi_pd((__m256d)a, (__m256d)b); }

template <typename From>
INLINE vf every_fourth(From from, int i, int d) {
    return (vf)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from(i) + d)), _mm_loadu_ps(from(i + 4) + d), 1);
}
#endif

// LANES rows of LANES numbers as columns: to(d)[i] = from(i)[d]. Both tell where a row begins.
template <typename From, typename To>
INLINE void transpose(From from, To to) {
#if defined(__AVX2__)
    // Four numbers of every fourth row side by side; then fours are turned within their places.
    UNROLL for (int d = 0; d < LANES; d += 4) {
        vf x[4], y[4];
        UNROLL for (int i = 0; i < 4; i++) x[i] = every_fourth(from, i, d);
        y[0] = interleave_low(x[0], x[1]), y[1] = interleave_high(x[0], x[1]);
        y[2] = interleave_low(x[2], x[3]), y[3] = interleave_high(x[2], x[3]);
        store(to(d), pair_low(y[0], y[2]));
        store(to(d + 1), pair_high(y[0], y[2]));
        store(to(d + 2), pair_low(y[1], y[3]));
        store(to(d + 3), pair_high(y[1], y[3]));
    }
#else
    for (int i = 0; i < LANES; i++)
        UNROLL for (int d = 0; d < LANES; d++) to(d)[i] = from(i)[d];
#endif
}

}  // namespace
