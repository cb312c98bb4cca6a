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

// 2^x to a relative error of 2e-7 for x <= 0, 0 where that is below float32's numbers. A NaN stays one. 2^0 is 1 exactly: sums
// are multiplied by it block after block, and another number would grow with the text.
INLINE vf exp2_below_one(vf x) {
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
#if defined(__AVX512F__)
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)whole);
#else
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

// `rows` as columns: to[d * stride + i] = from[i][d], for LANES rows and LANES numbers of each.
INLINE void transpose(const float *const *from, float *to, int64_t stride) {
#if defined(__AVX512F__)
    __m512 r[16], t[16];
    UNROLL for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_ps(from[i]);
    UNROLL for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    UNROLL for (int i = 0; i < 16; i += 4) {
        UNROLL for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = (__m512)_mm512_unpacklo_pd((__m512d)t[i + j], (__m512d)t[i + j + 2]);
            r[i + 2 * j + 1] = (__m512)_mm512_unpackhi_pd((__m512d)t[i + j], (__m512d)t[i + j + 2]);
        }
    }
    // r[4 * q + j] holds column j of every group of four, of rows 4 q to 4 q + 3.
    UNROLL for (int j = 0; j < 4; j++) {
        __m512 a = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x44), b = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x44);
        __m512 c = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xee), d = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xee);
        _mm512_storeu_ps(to + (0 + j) * stride, _mm512_shuffle_f32x4(a, b, 0x88));
        _mm512_storeu_ps(to + (4 + j) * stride, _mm512_shuffle_f32x4(a, b, 0xdd));
        _mm512_storeu_ps(to + (8 + j) * stride, _mm512_shuffle_f32x4(c, d, 0x88));
        _mm512_storeu_ps(to + (12 + j) * stride, _mm512_shuffle_f32x4(c, d, 0xdd));
    }
#else
    for (int i = 0; i < LANES; i++)
        UNROLL for (int d = 0; d < LANES; d++) to[d * stride + i] = from[i][d];
#endif
}

}  // namespace
