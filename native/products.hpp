// The products of a tile of queries, V vectors in the lanes, with a block of keys or values.
#pragma once
#include <optional>

#include "distances.hpp"

namespace {

#if defined(__AVX512F__)
constexpr int REGISTERS = 24;  // for sums; the rest holds what is multiplied
#else
constexpr int REGISTERS = 12;
#endif

template <int V, typename Element>
struct Products {
    using Number = typename Element::Number;
    static constexpr int TILE = V * LANES;
    static constexpr int EACH = Element::EACH;
    // Keys at once, so that their sums fit into registers; spans are mostly multiples of so many.
    static constexpr int KEYS = REGISTERS / V >= 8 ? 8 : 4;
    static constexpr int COLUMNS = REGISTERS / V >= 16 ? 16 : REGISTERS / V >= 8 ? 8 : 4;  // of values, at once

    // Rows of a tile, [TILE][padded], zeros behind the last one; read in place where they lie next to each other
    // (rows further apart share a few lines of the caches).
    static void read_rows(const gs_tensor &x, int type, const Rows &rows, const Tile<V> &tile, int64_t b, int64_t h,
                          int64_t size, int64_t padded, Number *room, const Number **to) {
        const bool in_place = Element::in_place(type, size, padded) && x.row_stride == size;
        for (int i = 0; i < TILE; i++) {
            to[i] = room + i * padded;
            if (i >= tile.lanes) {
                std::memset(room + i * padded, 0, padded * sizeof *room);
                continue;
            }
            const char *from = row_of(x, type, b, h, rows.row(tile.first + i));
            if (in_place) {
                to[i] = reinterpret_cast<const Number *>(from);
            } else {
                Element::read(from, type, size, padded, room + i * padded);
            }
        }
    }

    // The same rows as columns of steps, [padded / EACH][TILE][EACH], times `sign`. A step has the size of a float32.
    static void to_columns(const Number *const *rows, int64_t padded, float sign, Numbers<Number> &columns) {
        float *const to = reinterpret_cast<float *>(columns.data());
        for (int v = 0; v < V; v++)
            for (int64_t d = 0; d < padded / EACH; d += LANES)
                transpose([&](int i) { return reinterpret_cast<const float *>(rows[v * LANES + i]) + d; },
                          [&](int i) { return to + (d + i) * TILE + v * LANES; });
        if (sign == 1.0f) return;
        for (Number &x : columns) x = Element::times(x, sign);
    }

    // Columns as rows again, wherever these lie.
    static void to_rows(const float *columns, int64_t padded, float *const *rows) {
        for (int v = 0; v < V; v++)
            for (int64_t d = 0; d < padded; d += LANES)
                transpose([&](int i) { return columns + (d + i) * TILE + v * LANES; },
                          [&](int i) { return rows[v * LANES + i] + d; });
    }

    // Calls work(first vector, number of vectors) of a span, both as constants.
    template <typename Work>
    static INLINE void with_vectors(const Span &span, Work work) {
        at_vector<0>(span, work);
    }

    // sum[key][v] = rows[key] . columns[v] for KEYS keys.
    template <int A>
    static INLINE void dot(const Number *const *rows, const Number *columns, int64_t size, vf (&sum)[KEYS][A]) {
        const Number *r[KEYS];
        UNROLL for (int k = 0; k < KEYS; k++) r[k] = rows[k];
        UNROLL for (int k = 0; k < KEYS; k++)
            UNROLL for (int v = 0; v < A; v++) sum[k][v] = vf{};
        for (int64_t d = 0; d < size; d += EACH) {
            Steps c[A];
            UNROLL for (int v = 0; v < A; v++) c[v] = Element::steps(columns + d * TILE + v * LANES * EACH);
            UNROLL for (int k = 0; k < KEYS; k++) {
                const Steps x = Element::step(r[k] + d);
                UNROLL for (int v = 0; v < A; v++) sum[k][v] = Element::multiply_add(x, c[v], sum[k][v]);
            }
        }
    }

    // Weights [key][lane] of the spans' keys, as add_weighted takes them: [key / EACH][lane][EACH].
    static INLINE const Number *by_key(const Span *spans, int parts, const float *weights, Numbers<Number> &room) {
        if constexpr (EACH == 1) {
            return weights;
        } else {
            for (int s = 0; s < parts; s++)
                with_vectors(spans[s], [&](auto first, auto vectors) __attribute__((always_inline)) {
                    join_keys<first(), vectors()>(spans[s], weights, room.data());
                });
            return room.data();
        }
    }

    // The same as numbers that lie as they did: [key][lane].
    static INLINE const Number *by_lane(const Span &span, const float *weights, Numbers<Number> &room) {
        if constexpr (EACH == 1) {
            return weights;
        } else {
            const int first = span.vector * LANES, last = first + span.vectors * LANES;
            for (int k = span.first; k < span.last; k++)
                for (int i = k * TILE + first; i < k * TILE + last; i += LANES) {
                    const vh x = Element::rounded(load(weights + i));
                    std::memcpy(room.data() + i, &x, sizeof x);
                }
            return room.data();
        }
    }

    // columns[d][lane] = columns[d][lane] * factor[lane] + sum over the spans' keys of rows[key][d] * weights[key][lane];
    // rows and weights are EACH keys joined.
    static INLINE void add_weighted(const Span *spans, int parts, const Number *const *rows, const Number *weights,
                                    int64_t padded, const vf *factor, float *columns) {
        for (int64_t d = 0; d < padded; d += COLUMNS) {
            vf sum[COLUMNS][V];
            UNROLL for (int i = 0; i < COLUMNS; i++)
                UNROLL for (int v = 0; v < V; v++) sum[i][v] = vf{};  // of this block alone: long sums lose digits
            for (int s = 0; s < parts; s++)
                with_vectors(spans[s], [&](auto first, auto vectors) __attribute__((always_inline)) {
                    accumulate<first(), vectors()>(rows, spans[s], weights, d, sum);
                });
            UNROLL for (int i = 0; i < COLUMNS; i++)
                UNROLL for (int v = 0; v < V; v++) {
                    float *place = columns + (d + i) * TILE + v * LANES;
                    store(place, load(place) * factor[v] + sum[i][v]);
                }
        }
    }

   private:
    using Steps = decltype(Element::steps(nullptr));

    // Spans begin at whole steps.
    template <int F, int A>
    static INLINE void accumulate(const Number *const *rows, const Span &span, const Number *weights, int64_t d,
                                  vf (&sum)[COLUMNS][V]) {
        for (int k = span.first / EACH; k * EACH < span.last; k++) {
            Steps w[A];
            UNROLL for (int v = 0; v < A; v++) w[v] = Element::steps(weights + (k * TILE + (F + v) * LANES) * EACH);
            const Number *row = rows[k] + d * EACH;
            hide(row);  // one register and fixed offsets: left alone, the compiler takes a register for each column
            UNROLL for (int i = 0; i < COLUMNS; i++) {
                const Steps x = Element::step(row + i * EACH);
                UNROLL for (int v = 0; v < A; v++) sum[i][F + v] = Element::multiply_add(x, w[v], sum[i][F + v]);
            }
        }
    }

    // A key behind the last one has weight 0.
    template <int F, int A>
    static INLINE void join_keys(const Span &span, const float *weights, Number *to) {
        for (int k = span.first; k < span.last; k += 2) {
            UNROLL for (int v = F; v < F + A; v++) {
                const float *place = weights + k * TILE + v * LANES;
                const vi both = Element::joined(load(place), k + 1 < span.last ? load(place + TILE) : vf{});
                std::memcpy(to + k * TILE + v * LANES * 2, &both, sizeof both);
            }
        }
    }

    template <int F, typename Work>
    static INLINE void at_vector(const Span &span, Work work) {
        if constexpr (F + 1 < V) {
            if (span.vector != F) return at_vector<F + 1>(span, work);
        }
        with_count<F, V - F>(span, work);
    }

    template <int F, int A, typename Work>
    static INLINE void with_count(const Span &span, Work work) {
        if constexpr (A > 1) {
            if (span.vectors != A) return with_count<F, A - 1>(span, work);
        }
        work(std::integral_constant<int, F>{}, std::integral_constant<int, A>{});
    }
};

// How many tiles share each block of keys: several where all of them see all keys, more than a core's cache holds. In
// pairs, a key that not all of them see would be joined with one that they do.
template <typename Element>
int tiles_together(const gs_attention &call) {
    constexpr int64_t MUCH = 1 << 20;
    const bool from_first = call.band_low <= -FAR, to_last = call.band_high >= FAR || Element::EACH == 1;
    return from_first && to_last && call.keys.rows * (call.size + call.value_size) * type_size(call.type) > MUCH ? 4 : 1;
}

}  // namespace
