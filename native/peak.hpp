// What the processor's vector units do at best: multiply-adds between registers that wait for nothing, one thread.
#pragma once
#include <chrono>
#include <cstdint>
#include <ctime>

#include "vectors.hpp"

namespace {

#if defined(__AVX512F__)
constexpr int CHAINS = 24;  // sums that are under way at once: more than latency times units, and they fit the registers
#else
constexpr int CHAINS = 12;
#endif
constexpr int64_t STEPS = 20000;

// Seconds of processor time that this thread had, so that others on the same core don't count; else of the clock on the wall.
inline double thread_seconds() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
    timespec now;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0) return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
#endif
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// GFLOP/s of `round`, a function that does `flops` of them, called until the time is over.
template <typename Round>
double rate_of(Round round, double flops, double seconds) {
    round();  // vector units take a moment to wake up
    const double start = thread_seconds();
    double done = 0, passed = 0;
    do {
        round();
        done += flops;
        passed = thread_seconds() - start;
    } while (passed < seconds);
    return passed > 0 ? 1e-9 * done / passed : 0;
}

// Each sum runs towards 2: no number overflows, vanishes or is known to the compiler. Sets without a fused
// multiply-add take two instructions, here as in the kernel.
inline void float32_round() {
    vf sum[CHAINS], half = splat(0.5f), one = splat(1.0f);
    UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = splat(float(i));
    asm volatile("" : "+m"(half), "+m"(one));
    for (int64_t step = 0; step < STEPS; step++) UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = sum[i] * half + one;
    UNROLL for (int i = 1; i < CHAINS; i++) sum[0] += sum[i];
    asm volatile("" : : "m"(sum[0]));
}

inline double float32_peak(double seconds) {
    return rate_of(float32_round, 2.0 * LANES * CHAINS * STEPS, seconds);
}

#if defined(__AVX512F__)
// A dot product instruction multiplies and adds two pairs a lane. The sums differ, or the compiler would make them one.
__attribute__((target("avx512f,avx512bf16"))) inline void bfloat16_round() {
    __m512 sum[CHAINS];
    __m512bh pairs;
    std::memset(&pairs, 0x3f, sizeof pairs);
    UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_set1_ps(float(i));
    asm volatile("" : "+m"(pairs));
    for (int64_t step = 0; step < STEPS; step++)
        UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_dpbf16_ps(sum[i], pairs, pairs);
    UNROLL for (int i = 1; i < CHAINS; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
    asm volatile("" : : "m"(sum[0]));
}
#endif

// 0 where the processor has no such instruction.
inline double bfloat16_peak(double seconds) {
#if defined(__AVX512F__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bf16")) return rate_of(bfloat16_round, 4.0 * LANES * CHAINS * STEPS, seconds);
#endif
    (void)seconds;
    return 0;
}

}  // namespace
