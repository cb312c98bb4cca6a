// One library for each instruction set: this file and the ways of computing that it calls, compiled with its flags. Nothing but the C interface is visible, so that
// no code of one set can stand in for that of another.
#include <atomic>
#include <cstring>
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include "fields.hpp"
#include "peak.hpp"
#include "ways.hpp"

#if defined(_WIN32)
#define VISIBLE extern "C" __declspec(dllexport)
#else
#define VISIBLE extern "C" __attribute__((visibility("default")))
#endif

namespace {

std::atomic<bool> forked{false};

#if defined(__unix__) || defined(__APPLE__)
// OpenMP's threads do not survive a fork, and a child that waits for them waits for ever.
const int watching = pthread_atfork(nullptr, nullptr, [] { forked = true; });
#endif

gs_attention checked(const gs_attention *call) {
    gs_attention own = *call;
    if (forked) own.threads = 1;
    return own;
}

}  // namespace

VISIBLE int gs_forward(const gs_attention *given) {
    gs_attention call = checked(given);
#if defined(__AVX512BF16__)
    if (call.type == GS_BFLOAT16) return pairs_forward(call);
#endif
    return single_forward(call);
}

VISIBLE int gs_backward(const gs_attention *given) {
    gs_attention call = checked(given);
#if defined(__AVX512BF16__)
    if (call.type == GS_BFLOAT16 && call.out_type == GS_BFLOAT16) return pairs_backward(call);
#endif
    return single_backward(call);
}

VISIBLE int gs_supports(const char *instructions) {
    if (std::strcmp(instructions, "baseline") == 0) return 1;
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    if (std::strcmp(instructions, "avx2") == 0) return avx2;
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (std::strcmp(instructions, "avx512") == 0) return avx512;
    if (std::strcmp(instructions, "avx512_bf16") == 0) return avx512 && __builtin_cpu_supports("avx512bf16");
#endif
    return 0;
}

VISIBLE double gs_peak(int type, double seconds) {
    return type == GS_FLOAT32 ? float32_peak(seconds) : type == GS_BFLOAT16 ? bfloat16_peak(seconds) : 0;
}

VISIBLE const gs_field *gs_fields(void) { return FIELDS; }
