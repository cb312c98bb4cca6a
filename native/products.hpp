// The products of a tile of queries, V vectors in the lanes, with a block of keys or values.
#pragma once
#include "tiles.hpp"

namespace {

#if defined(__AVX512F__)
constexpr int REGISTERS = 24;  // for sums; the rest holds what is multiplied
#else
constexpr int REGISTERS = 12;
#endif

template <int V>
struct Products {
    static constexpr int TILE = V * LANES;
    // Keys at once, so that their sums fit into registers; spans are mostly multiples of so many.
    static constexpr int KEYS = REGISTERS / V >= 8 ? 8 : 4;
    static constexpr int COLUMNS = REGISTERS / V >= 16 ? 16 : REGISTERS / V >= 8 ? 8 : 4;  // of values, at once

    // Rows of a tile as float32, [TILE][padded], zeros behind the last one; read in place where they lie next to each other
    // (rows further apart share a few lines of the caches).
    static void read_rows(const gs_tensor &x, int type, const Rows &rows, const Tile<V> &tile, int64_t b, int64_t h,
                          int64_t size, int64_t padded, float *room, const float **to) {
        const bool in_place = type == GS_FLOAT32 && size == padded && x.row_stride == size;
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
        for (int v = 0; v < V; v++)
            for (int64_t d = 0; d < padded; d += LANES)
                transpose([&](int i) { return rows[v * LANES + i] + d; },
                          [&](int i) { return columns + (d + i) * TILE + v * LANES; });
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
    static INLINE void dot(const float *const *rows, const float *columns, int64_t size, vf (&sum)[KEYS][A]) {
        const float *r[KEYS];
        UNROLL for (int k = 0; k < KEYS; k++) r[k] = rows[k];
        UNROLL for (int k = 0; k < KEYS; k++)
            UNROLL for (int v = 0; v < A; v++) sum[k][v] = vf{};
        for (int64_t d = 0; d < size; d++) {
            vf c[A];
            UNROLL for (int v = 0; v < A; v++) c[v] = load(columns + d * TILE + v * LANES);
            UNROLL for (int k = 0; k < KEYS; k++) {
                vf x = splat(r[k][d]);
                UNROLL for (int v = 0; v < A; v++) sum[k][v] += x * c[v];
            }
        }
    }

    // columns[d][lane] = columns[d][lane] * factor[lane] + sum over the spans' keys of rows[key][d] * weights[key][lane].
    static INLINE void add_weighted(const Span *spans, int parts, const float *const *rows, const float *weights,
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
    template <int F, int A>
    static INLINE void accumulate(const float *const *rows, const Span &span, const float *weights, int64_t d,
                                  vf (&sum)[COLUMNS][V]) {
        for (int k = span.first; k < span.last; k++) {
            vf w[A];
            UNROLL for (int v = 0; v < A; v++) w[v] = load(weights + k * TILE + (F + v) * LANES);
            const float *row = rows[k] + d;
            hide(row);  // one register and fixed offsets: left alone, the compiler takes a register for each column
            UNROLL for (int i = 0; i < COLUMNS; i++) {
                vf x = splat(row[i]);
                UNROLL for (int v = 0; v < A; v++) sum[i][F + v] += x * w[v];
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

}  // namespace
