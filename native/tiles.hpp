// What forward and backward share: rows of text in tiles, keys in blocks, and which pairs of them may meet.
#pragma once
#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "gossamer_attention.h"
#include "vectors.hpp"

namespace {

#if defined(__AVX512F__)
constexpr int REGISTERS = 24;  // for sums; the rest holds what is multiplied
#elif defined(__AVX2__)
constexpr int REGISTERS = 12;
#else
constexpr int REGISTERS = 12;
#endif
constexpr int BLOCK = 96;  // keys whose scores are held at once
constexpr int64_t FAR = int64_t(1) << 40;  // stands for no bound

constexpr float LOG2E = 1.44269504088896341f;
constexpr float LN2 = 0.69314718055994531f;
constexpr float LOWEST = -std::numeric_limits<float>::max();

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

INLINE int type_size(int type) { return type == GS_FLOAT32 ? 4 : 2; }

INLINE const char *row_of(const gs_tensor &x, int type, int64_t b, int64_t h, int64_t row) {
    return static_cast<const char *>(x.data) +
           (b * x.batch_stride + h * x.head_stride + row * x.row_stride) * type_size(type);
}

INLINE float *float_row(const gs_tensor &x, int64_t b, int64_t h, int64_t row) {
    return static_cast<float *>(x.data) + b * x.batch_stride + h * x.head_stride + row * x.row_stride;
}

INLINE int64_t lse_row(const gs_attention &call, int64_t b, int64_t h) {
    return b * call.lse_batch_stride + h * call.lse_head_stride;
}

// The rows of one text.
struct Rows {
    const int32_t *index, *band, *second;
    int64_t count, start;

    Rows(const gs_rows &rows, int64_t b) {
        int64_t first = 0;
        start = rows.start;
        if (rows.index == nullptr) {
            index = band = second = nullptr;
            count = rows.rows;
            return;
        }
        int64_t text = rows.shared ? 0 : b;
        first = rows.offsets[text];
        count = rows.offsets[text + 1] - first;
        index = rows.index + first;
        band = rows.band + first;
        second = rows.second == nullptr ? nullptr : rows.second + first;
    }
    INLINE int64_t row(int64_t i) const { return index == nullptr ? i : index[i]; }
    INLINE int64_t coordinate(int64_t i) const { return band == nullptr ? i + start : band[i]; }
    // The first place whose coordinate is at least `wanted`.
    int64_t place(int64_t wanted) const {
        if (band == nullptr) return std::clamp<int64_t>(wanted - start, 0, count);
        return std::lower_bound(band, band + count, wanted) - band;
    }
};

enum Meeting { NEVER, SOMETIMES, ALWAYS };

INLINE int32_t bounded(int64_t x) {
    return int32_t(std::clamp<int64_t>(x, -(int64_t(1) << 31), (int64_t(1) << 31) - 1));
}

// Keys or values of a block: pointers to rows of float32, `padded` numbers long, read in place where that is possible.
struct Block {
    const float *rows[BLOCK];
    std::vector<float> room;

    explicit Block(int64_t padded) : room(BLOCK * padded) {}
    void read(const gs_tensor &x, int type, const Rows &keys, int64_t b, int64_t h, int64_t first, int count,
              int64_t size, int64_t padded) {
        const int64_t step = x.row_stride * type_size(type);
        const char *base = row_of(x, type, b, h, 0);
        auto at = [&](int j) { return base + (keys.index == nullptr ? first + j : keys.index[first + j]) * step; };
        if (type == GS_FLOAT32 && size == padded) {
            for (int j = 0; j < count; j++) rows[j] = reinterpret_cast<const float *>(at(j));
        } else {
            for (int j = 0; j < count; j++) {
                rows[j] = room.data() + j * padded;
                read_row(at(j), type, size, padded, room.data() + j * padded);
            }
        }
        // The last group of keys is filled up with the last key; nobody reads those scores.
        for (int j = count; j < BLOCK; j++) rows[j] = rows[count - 1];
    }
};

// Murmur3's finaliser; kernels/dropout.py is the definition.
INLINE uint32_t mix(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    return x ^ (x >> 16);
}

// The work on tiles of V vectors of queries.
template <int V>
struct Tiles {
    static constexpr int TILE = V * LANES;
    static constexpr int KEYS = std::min(12, REGISTERS / V);     // keys at once, so that their sums fit into registers
    static constexpr int COLUMNS = REGISTERS / V >= 16 ? 16 : REGISTERS / V >= 8 ? 8 : 4;  // of values, at once

    // Queries first .. first + lanes of a text, with what decides whom they see.
    struct Tile {
        int64_t first;
        int lanes;
        int64_t key_first, key_last;  // places of keys that any of them may see
        vi band[V], second[V];
        int64_t band_least, band_most, second_least, second_most;

        Tile(const gs_attention &call, const Rows &queries, const Rows &keys, int64_t start) {
            first = start;
            lanes = int(std::min<int64_t>(TILE, queries.count - first));
            band_least = queries.coordinate(first);
            band_most = queries.coordinate(first + lanes - 1);
            second_least = second_most = 0;
            int32_t bands[TILE], seconds[TILE] = {};
            for (int i = 0; i < TILE; i++) {
                int64_t place = first + std::min(i, lanes - 1);
                bands[i] = int32_t(queries.coordinate(place));
                if (queries.second != nullptr) seconds[i] = queries.second[place];
            }
            if (queries.second != nullptr) {
                second_least = *std::min_element(seconds, seconds + lanes);
                second_most = *std::max_element(seconds, seconds + lanes);
            }
            std::memcpy(band, bands, sizeof bands);
            std::memcpy(second, seconds, sizeof seconds);
            key_first = call.band_low <= -FAR ? 0 : keys.place(band_least + call.band_low);
            key_last = call.band_high >= FAR ? keys.count : keys.place(band_most + call.band_high + 1);
            key_last = std::max(key_first, key_last);
        }

        // Whether the queries see all, some or none of the keys at places from .. to.
        Meeting meets(const gs_attention &call, const Rows &keys, int64_t from, int64_t to) const {
            bool all = keys.coordinate(to - 1) - band_least <= call.band_high &&
                       keys.coordinate(from) - band_most >= call.band_low;
            if (keys.second != nullptr) {
                int64_t least = *std::min_element(keys.second + from, keys.second + to);
                int64_t most = *std::max_element(keys.second + from, keys.second + to);
                if (least - second_most > call.second_high || most - second_least < call.second_low) return NEVER;
                all = all && most - second_least <= call.second_high && least - second_most >= call.second_low;
            }
            return all ? ALWAYS : SOMETIMES;
        }

        // The vectors that may see any key at places from .. to, as first and behind the last.
        std::pair<int, int> vectors_at(const gs_attention &call, const Rows &keys, int64_t from, int64_t to) const {
            const int64_t least = keys.coordinate(from) - call.band_high, most = keys.coordinate(to - 1) - call.band_low;
            int first = 0, last = V;
            while (first < last && band[first][LANES - 1] < least) first++;
            while (last > first && band[last - 1][0] > most) last--;
            return {first, last};
        }

        // Which queries of one vector see the key at a place. The caller sees to it that differences fit 32 bits.
        INLINE vi sees(const gs_attention &call, const Rows &keys, int64_t place, int v) const {
            vi apart = splat(int32_t(keys.coordinate(place))) - band[v];
            vi mask = (apart >= splat(bounded(call.band_low))) & (apart <= splat(bounded(call.band_high)));
            if (keys.second != nullptr) {
                vi other = splat(keys.second[place]) - second[v];
                mask &= (other >= splat(bounded(call.second_low))) & (other <= splat(bounded(call.second_high)));
            }
            return mask;
        }
    };

    struct Dropout {
        bool any;
        int32_t threshold;
        float factor;
        vu rows[V];

        Dropout(const gs_attention &call, const Rows &queries, const Tile &tile, int64_t b, int64_t h) {
            any = call.dropout > 0.0f;
            if (!any) return;
            threshold = int32_t(int64_t(double(call.dropout) * 4294967296.0) - 2147483648LL);
            factor = 1.0f / (1.0f - call.dropout);
            const uint32_t number = uint32_t(call.first_head + h);
            uint32_t head = mix(mix(mix(call.seed) ^ uint32_t(b) * 0x9E3779B9u) ^ number * 0x9E3779B9u);
            uint32_t mixed[TILE];
            for (int i = 0; i < TILE; i++) {
                int64_t row = queries.row(tile.first + std::min(i, tile.lanes - 1));
                mixed[i] = mix(head ^ uint32_t(row) * 0x9E3779B9u);
            }
            std::memcpy(rows, mixed, sizeof mixed);
        }
        INLINE vi kept(uint32_t column, int v) const {
            vu bits = (rows[v] ^ (column - vu{})) * 0x7FEB352Du;
            bits = (bits ^ (bits >> 15)) * 0x846CA68Bu;
            return (vi)bits >= splat(threshold);
        }
        static INLINE uint32_t column(int64_t key) { return mix(uint32_t(key) * 0x85EBCA6Bu ^ 0x5BD1E995u); }
    };

    // Rows of a tile as float32, [TILE][padded], zeros behind the last one; read in place where that is possible.
    static void read_rows(const gs_tensor &x, int type, const Rows &rows, const Tile &tile, int64_t b, int64_t h,
                          int64_t size, int64_t padded, float *room, const float **to) {
        const bool in_place = type == GS_FLOAT32 && size == padded;
        for (int i = 0; i < TILE; i++) {
            to[i] = room + i * padded;
            if (i >= tile.lanes) {
                std::memset(room + i * padded, 0, padded * 4);
                continue;
            }
            const char *from = row_of(x, type, b, h, rows.row(tile.first + i));
            if (in_place) {
                to[i] = reinterpret_cast<const float *>(from);
            } else {
                read_row(from, type, size, padded, room + i * padded);
            }
        }
    }

    // The same rows as columns: [padded][TILE].
    static void to_columns(const float *const *rows, int64_t padded, float *columns) {
        for (int64_t d = 0; d < padded; d += LANES) {
            for (int v = 0; v < V; v++) {
                const float *from[LANES];
                for (int i = 0; i < LANES; i++) from[i] = rows[v * LANES + i] + d;
                transpose(from, columns + d * TILE + v * LANES, TILE);
            }
        }
    }

    // Columns as rows again: [TILE][padded].
    static void to_rows(const float *columns, int64_t padded, float *rows) {
        for (int64_t d = 0; d < padded; d += LANES) {
            for (int v = 0; v < V; v++) {
                const float *from[LANES];
                for (int i = 0; i < LANES; i++) from[i] = columns + (d + i) * TILE + v * LANES;
                transpose(from, rows + v * LANES * padded + d, padded);
            }
        }
    }

    // Keys first .. last of a block and the vectors of queries that may see them: what lies beside is not computed.
    struct Span {
        int first, last, vector, vectors;
    };

    // A block in spans of as many groups of keys as the same vectors may see.
    static int spans(const gs_attention &call, const Tile &tile, const Rows &keys, int64_t place, int count, bool masked,
                     Span *out) {
        if (!masked) {
            out[0] = {0, count, 0, V};
            return 1;
        }
        int found = 0;
        for (int k = 0; k < count; k += KEYS) {
            const int last = std::min(k + KEYS, count);
            const auto [from, to] = tile.vectors_at(call, keys, place + k, place + last);
            if (from >= to) continue;
            if (found && out[found - 1].last == k && out[found - 1].vector == from &&
                out[found - 1].vectors == to - from) {
                out[found - 1].last = last;
            } else {
                out[found++] = {k, last, from, to - from};
            }
        }
        return found;
    }

    // Calls work(std::integral_constant<int, vectors>) for a span's number of vectors.
    template <typename Work>
    static INLINE void with_vectors(int vectors, Work work) {
        if (vectors == V) return work(std::integral_constant<int, V>{});
        if constexpr (V > 2) {
            if (vectors == 2) return work(std::integral_constant<int, 2>{});
        }
        if constexpr (V > 1) work(std::integral_constant<int, 1>{});
    }

    // Scores of all spans: scores[key][lane] = rows[key] . columns[lane]; `most` grows to the largest of each lane.
    static INLINE void dots(const Span *spans, int count, const float *const *rows, const float *columns, int64_t size,
                            float *scores, vf *most) {
        for (int s = 0; s < count; s++) {
            const Span &span = spans[s];
            with_vectors(span.vectors, [&](auto vectors) {
                const int from = span.vector * LANES;
                for (int k = span.first; k < span.last; k += KEYS)
                    dot<vectors()>(rows + k, columns + from, size, scores + k * TILE + from, most + span.vector);
            });
        }
    }

    // columns[d][lane] = columns[d][lane] * factor[lane] + sum over the spans' keys of rows[key][d] * weights[key][lane].
    static INLINE void add_spans(const Span *spans, int count, const float *const *rows, const float *weights,
                                 int64_t padded, const vf *factor, float *columns) {
        if (count == 1 && spans[0].vectors == V) {
            const Span &span = spans[0];
            add_weighted<V>(rows + span.first, span.last - span.first, weights + span.first * TILE, padded, factor, columns);
            return;
        }
        vf one[V];
        UNROLL for (int v = 0; v < V; v++) one[v] = splat(1.0f);
        for (int64_t d = 0; d < padded; d++)
            UNROLL for (int v = 0; v < V; v++) {
                float *place = columns + d * TILE + v * LANES;
                store(place, load(place) * factor[v]);
            }
        for (int s = 0; s < count; s++) {
            const Span &span = spans[s];
            with_vectors(span.vectors, [&](auto vectors) {
                const int from = span.vector * LANES;
                add_weighted<vectors()>(rows + span.first, span.last - span.first, weights + span.first * TILE + from,
                                        padded, one, columns + from);
            });
        }
    }

    // out[key][lane] = sum over d of rows[key][d] * columns[d][lane], for KEYS keys; `most` grows to their largest.
    template <int A>
    static INLINE void dot(const float *const *rows, const float *columns, int64_t size, float *out, vf *most) {
        vf sum[KEYS][A] = {};
        const float *r[KEYS];
        UNROLL for (int k = 0; k < KEYS; k++) r[k] = rows[k];
        for (int64_t d = 0; d < size; d++) {
            vf c[A];
            UNROLL for (int v = 0; v < A; v++) c[v] = load(columns + d * TILE + v * LANES);
            UNROLL for (int k = 0; k < KEYS; k++) {
                vf x = splat(r[k][d]);
                UNROLL for (int v = 0; v < A; v++) sum[k][v] += x * c[v];
            }
        }
        UNROLL for (int k = 0; k < KEYS; k++) {
            UNROLL for (int v = 0; v < A; v++) {
                store(out + k * TILE + v * LANES, sum[k][v]);
                most[v] = maximum(most[v], sum[k][v]);
            }
        }
    }

    // columns[d][lane] = columns[d][lane] * factor[lane] + sum over keys of rows[key][d] * weights[key][lane].
    template <int A>
    static INLINE void add_weighted(const float *const *rows, int count, const float *weights, int64_t padded,
                                    const vf *factor, float *columns) {
        for (int64_t d = 0; d < padded; d += COLUMNS) {
            vf sum[COLUMNS][A];
            UNROLL for (int i = 0; i < COLUMNS; i++)
                UNROLL for (int v = 0; v < A; v++)
                    sum[i][v] = load(columns + (d + i) * TILE + v * LANES) * factor[v];
            for (int k = 0; k < count; k++) {
                vf w[A];
                UNROLL for (int v = 0; v < A; v++) w[v] = load(weights + k * TILE + v * LANES);
                const float *row = rows[k] + d;
                UNROLL for (int i = 0; i < COLUMNS; i++) {
                    vf x = splat(row[i]);
                    UNROLL for (int v = 0; v < A; v++) sum[i][v] += x * w[v];
                }
            }
            UNROLL for (int i = 0; i < COLUMNS; i++)
                UNROLL for (int v = 0; v < A; v++) store(columns + (d + i) * TILE + v * LANES, sum[i][v]);
        }
    }
};

// While it lives, results too small for float32's normal numbers become 0: on x86 they would take a hundred times longer.
struct FlushToZero {
#if defined(__x86_64__)
    unsigned before = _mm_getcsr();
    FlushToZero() { _mm_setcsr(before | 0x8000); }
    ~FlushToZero() { _mm_setcsr(before); }
#endif
};

INLINE int64_t round_up(int64_t size) { return (size + 15) / 16 * 16; }

// 1 for a positive scale; a negative one turns maxima into minima and 0 makes infinities NaN, so the queries take those.
INLINE float sign_of(const gs_attention &call) { return call.scale > 0.0f ? 1.0f : call.scale < 0.0f ? -1.0f : 0.0f; }

INLINE float exponent_scale(const gs_attention &call) {
    return call.scale == 0.0f ? LOG2E : std::fabs(call.scale) * LOG2E;
}

}  // namespace
