// What products multiply: numbers one by one, or pairs of bfloat16. The same code serves both; EACH numbers make a step.
#pragma once
#include <algorithm>
#include <new>
#include <vector>

#include "numbers.hpp"

namespace {

// Numbers that begin where a cache line does: a vector across two lines takes twice as long.
template <typename T>
struct CacheLines {
    using value_type = T;
    CacheLines() = default;
    template <typename Other>
    CacheLines(const CacheLines<Other> &) {}
    T *allocate(size_t n) { return static_cast<T *>(::operator new(n * sizeof(T), std::align_val_t(64))); }
    void deallocate(T *p, size_t) { ::operator delete(p, std::align_val_t(64)); }
    void construct(T *) {}  // everything is written before it is read
    bool operator==(const CacheLines &) const { return true; }
};
template <typename T>
using Numbers = std::vector<T, CacheLines<T>>;
using Floats = Numbers<float>;

INLINE int64_t round_up(int64_t size, int64_t step) { return (size + step - 1) / step * step; }

// Any type, computed in float32.
struct Single {
    using Number = float;
    static constexpr int EACH = 1;

    static INLINE vf step(const float *x) { return splat(*x); }
    static INLINE vf steps(const float *x) { return load(x); }
    static INLINE vf multiply_add(vf x, vf y, vf sum) { return sum + x * y; }
    static INLINE float times(float x, float factor) { return x * factor; }

    // Whether rows are such numbers already, with nothing missing up to `padded`.
    static INLINE bool in_place(int type, int64_t size, int64_t padded) { return type == GS_FLOAT32 && size == padded; }
    static INLINE void read(const void *from, int type, int64_t size, int64_t padded, float *to) {
        read_row(from, type, size, padded, to);
    }
    // EACH rows as one, their numbers side by side: here every row as it is.
    static INLINE void join(const float *const *rows, int count, int64_t, int64_t, float *, const float **to) {
        std::memcpy(to, rows, count * sizeof *rows);
    }
};

#if defined(__AVX512BF16__)
// bfloat16, by the instruction that adds the products of two pairs to a float32 sum. It takes numbers below bfloat16's normal
// ones for 0.
struct Pair {
    using Number = uint16_t;
    static constexpr int EACH = 2;

    static INLINE vi step(const uint16_t *x) {
        int32_t both;
        std::memcpy(&both, x, sizeof both);
        return splat(both);
    }
    static INLINE vi steps(const uint16_t *x) {
        vi out;
        std::memcpy(&out, x, sizeof out);
        return out;
    }
    static INLINE vf multiply_add(vi x, vi y, vf sum) {
        return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)y);
    }
    static INLINE uint16_t times(uint16_t x, float factor) { return to_bfloat16(from_bfloat16(x) * factor); }

    static INLINE bool in_place(int, int64_t size, int64_t padded) { return size == padded; }
    static INLINE void read(const void *from, int, int64_t size, int64_t padded, uint16_t *to) {
        std::memcpy(to, from, size * sizeof *to);
        std::memset(to + size, 0, (padded - size) * sizeof *to);
    }
    // Behind an odd number of rows the last one comes again; its weight is 0.
    static INLINE void join(const uint16_t *const *rows, int count, int64_t size, int64_t padded, uint16_t *room,
                            const uint16_t **to) {
        for (int i = 0; 2 * i < count; i++) {
            to[i] = room + i * 2 * padded;
            join(rows[2 * i], rows[std::min(2 * i + 1, count - 1)], size, padded, room + i * 2 * padded);
        }
    }
    // LANES numbers of each of two vectors, rounded, side by side.
    static INLINE vi joined(vf x, vf y) {
        const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)y, (__m512)x);
        return (vi)_mm512_permutexvar_epi16(alternate(0, LANES), both);
    }
    static INLINE vh rounded(vf x) { return (vh)_mm512_cvtneps_pbh((__m512)x); }

   private:
    // LANES numbers from one place and LANES from another in turn.
    static INLINE __m512i alternate(int16_t first, int16_t second) {
        short at[2 * LANES];
        UNROLL for (int i = 0; i < LANES; i++) at[2 * i] = short(first + i), at[2 * i + 1] = short(second + i);
        return _mm512_loadu_si512(at);
    }

    static INLINE void join(const uint16_t *x, const uint16_t *y, int64_t size, int64_t padded, uint16_t *to) {
        int64_t d = 0;
        for (; d + 2 * LANES <= size; d += 2 * LANES) {
            const __m512i first = _mm512_loadu_si512(x + d), second = _mm512_loadu_si512(y + d);
            _mm512_storeu_si512(to + 2 * d, _mm512_permutex2var_epi16(first, alternate(0, 2 * LANES), second));
            _mm512_storeu_si512(to + 2 * d + 2 * LANES, _mm512_permutex2var_epi16(first, alternate(LANES, 3 * LANES), second));
        }
        for (; d < padded; d++) {
            to[2 * d] = d < size ? x[d] : uint16_t(0);
            to[2 * d + 1] = d < size ? y[d] : uint16_t(0);
        }
    }
};
#endif

}  // namespace
