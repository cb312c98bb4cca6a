// Attention backward: weights again from the log-sum-exp, five products a tile of queries and block of keys (Dao 2023).
#pragma once
#include "products.hpp"

namespace {

// to[key][d] += sum over lanes of weights[key][lane] * rows[lane][d], for `keys` keys and N vectors of columns from d.
template <int N, int K>
INLINE void add_outer(const float *weights, int64_t stride, int keys, const float *const *rows, int64_t d, int lanes,
                      float *const *to, int64_t size) {
    vf sum[K][N] = {};
    const float *w[K];
    UNROLL for (int k = 0; k < K; k++) w[k] = weights + std::min(k, keys - 1) * stride;
    for (int i = 0; i < lanes; i++) {
        vf x[N];
        UNROLL for (int v = 0; v < N; v++) x[v] = load(rows[i] + d + v * LANES);
        UNROLL for (int k = 0; k < K; k++) {
            vf y = splat(w[k][i]);
            UNROLL for (int v = 0; v < N; v++) sum[k][v] += y * x[v];
        }
    }
    UNROLL for (int k = 0; k < K; k++) {
        if (k >= keys) break;
        UNROLL for (int v = 0; v < N; v++) {
            int64_t place = d + v * LANES;
            float *out = to[k] + place;
            if (place + LANES <= size) {
                store(out, load(out) + sum[k][v]);
            } else {
                for (int64_t i = 0; place + i < size; i++) out[i] += sum[k][v][i];
            }
        }
    }
}

inline void add_gradients(const float *weights, int64_t stride, int count, const float *const *rows, int64_t padded,
                          int lanes, int64_t size, float *const *to) {
    constexpr int N = 4, K = REGISTERS / N;
    for (int64_t d = 0; d < padded; d += N * LANES) {
        int64_t vectors = std::min<int64_t>(N, (padded - d) / LANES);
        for (int k = 0; k < count; k += K) {
            int keys = std::min(K, count - k);
            const float *w = weights + k * stride;
            switch (vectors) {
                case 1: add_outer<1, K>(w, stride, keys, rows, d, lanes, to + k, size); break;
                case 2: add_outer<2, K>(w, stride, keys, rows, d, lanes, to + k, size); break;
                case 3: add_outer<3, K>(w, stride, keys, rows, d, lanes, to + k, size); break;
                default: add_outer<4, K>(w, stride, keys, rows, d, lanes, to + k, size);
            }
        }
    }
}

template <int V>
struct Backward : Products<V> {
    using Base = Products<V>;
    using Base::KEYS;
    using Base::TILE;

    const gs_attention &call;
    const int64_t padded;
    Floats query_columns, query_room, gradient_columns, gradient_room, dq, weights, changes;
    const float *query_rows[TILE], *gradient_rows[TILE];
    Block keys_block, values_block;
    Ahead<V, 7> ahead;
    vf lse[V], delta[V];

    explicit Backward(const gs_attention &call)
        : call(call), padded(round_up(call.size)), query_columns(padded * TILE), query_room(padded * TILE),
          gradient_columns(padded * TILE), gradient_room(padded * TILE), dq(padded * TILE),
          weights((BLOCK + SPARE) * TILE), changes((BLOCK + SPARE) * TILE), keys_block(call.k, call.type, call.size),
          values_block(call.v, call.type, call.size) {}

    // Of a span: scores become weights, and gradients of weights those of scores, both as the products after them need them.
    template <int F, int A>
    INLINE void change(const Tile<V> &tile, const Span &span, int64_t block, const Dropout<V> &dropout) {
        products<F, A>(span, keys_block.rows, query_columns.data(), weights.data());
        products<F, A>(span, values_block.rows, gradient_columns.data(), changes.data());
        if (dropout.any) {
            turn<F, A, true>(tile, span, block, dropout);
        } else {
            turn<F, A, false>(tile, span, block, dropout);
        }
    }

    template <int F, int A>
    INLINE void products(const Span &span, const float *const *rows, const float *columns, float *to) {
        for (int k = span.first; k < span.last; k += KEYS) {
            ahead.ask();
            const float *some[KEYS];
            UNROLL for (int i = 0; i < KEYS; i++) some[i] = rows[std::min(k + i, span.last - 1)];
            vf found[KEYS][A];
            Base::template dot<A>(some, columns + F * LANES, call.size, found);
            UNROLL for (int i = 0; i < KEYS; i++)
                UNROLL for (int v = 0; v < A; v++) store(to + (k + i) * TILE + (F + v) * LANES, found[i][v]);
        }
    }

    template <int F, int A, bool DROPS>
    INLINE void turn(const Tile<V> &tile, const Span &span, int64_t block, const Dropout<V> &dropout) {
        const vf scale = splat(exponent_scale(call)), outer = splat(call.scale);
        float *const at = weights.data() + F * LANES, *const gradients = changes.data() + F * LANES;
        for (int k = span.first; k < span.last; k++) {
            const uint32_t column = DROPS ? Dropout<V>::column(tile.keys.row(block + k)) : 0;
            const bool clear = span.clear(k, k + 1);
            UNROLL for (int v = 0; v < A; v++) {
                float *weight = at + k * TILE + v * LANES, *gradient = gradients + k * TILE + v * LANES;
                vf p = exp2_below_one(load(weight) * scale - lse[F + v]);
                vf dp = load(gradient);
                if (!clear) {
                    const vi sees = tile.sees(block + k, F + v);
                    p = choose(sees, p, vf{});
                    dp = choose(sees, dp, vf{});
                }
                vf kept = p;
                if constexpr (DROPS) {
                    vi keep = dropout.kept(column, F + v);
                    dp = choose(keep, dp * dropout.factor, vf{});
                    kept = choose(keep, p * dropout.factor, vf{});
                }
                store(weight, kept);
                store(gradient, p * (dp - delta[F + v]) * outer);
            }
        }
    }

    void begin(const Rows &queries, const Tile<V> &tile, int64_t b, int64_t h) {
        const int64_t row = lse_row(call, b, h);
        float lses[TILE], deltas[TILE];
        for (int i = 0; i < TILE; i++) {
            int64_t place = row + queries.row(tile.first + std::min(i, tile.lanes - 1));
            bool empty = i >= tile.lanes || call.lse[place] == -INFINITE;
            lses[i] = empty ? -LOWEST : call.lse[place] * LOG2E;
            deltas[i] = i < tile.lanes ? call.delta[place] : 0.0f;
        }
        std::memcpy(lse, lses, sizeof lses);
        std::memcpy(delta, deltas, sizeof deltas);
        Base::read_rows(call.q, call.type, queries, tile, b, h, call.size, padded, query_room.data(), query_rows);
        Base::to_columns(query_rows, padded, query_columns.data());
        if (sign_of(call) != 1.0f)
            for (float &x : query_columns) x *= sign_of(call);
        Base::read_rows(call.dout, call.out_type, queries, tile, b, h, call.size, padded, gradient_room.data(),
                        gradient_rows);
        Base::to_columns(gradient_rows, padded, gradient_columns.data());
        std::fill(dq.begin(), dq.end(), 0.0f);
    }

    void look_ahead(const Rows &queries, const Tile<V> &tile, int64_t b, int64_t h) {
        const int64_t key_head = h / (call.heads / call.key_heads), next = tile.first + TILE, last = tile.key_last;
        ahead.count = ahead.asked = 0;
        if (next >= queries.count) return;
        ahead.add(call.dq, GS_FLOAT32, call.size, b, h, queries, tile.first, next);
        ahead.add(call.q, call.type, call.size, b, h, queries, next, next + TILE);
        ahead.add(call.dout, call.out_type, call.size, b, h, queries, next, next + TILE);
        for (const gs_tensor *x : {&call.k, &call.v})
            ahead.add(*x, call.type, call.size, b, key_head, tile.keys, last, last + TILE);
        for (const gs_tensor *x : {&call.dk, &call.dv})
            ahead.add(*x, GS_FLOAT32, call.size, b, key_head, tile.keys, last, last + TILE);
        ahead.spread(2 * (last - tile.key_first) / KEYS);
    }

    void run(const Rows &queries, const Rows &keys, int64_t b, int64_t h, int64_t first) {
        const int64_t key_head = h / (call.heads / call.key_heads);
        const Tile<V> tile(call, queries, keys, first);
        if (tile.key_first == tile.key_last) return;
        const Dropout<V> dropout(call, queries, tile, b, h);
        begin(queries, tile, b, h);
        look_ahead(queries, tile, b, h);
        for (Block *one : {&keys_block, &values_block})
            one->hold(keys, b, key_head, tile.key_first, tile.key_last, queries.count > TILE);
        vf one[V];
        UNROLL for (int v = 0; v < V; v++) one[v] = splat(1.0f);
        for (int64_t block = tile.key_first; block < tile.key_last; block += BLOCK) {
            const int count = int(std::min<int64_t>(BLOCK, tile.key_last - block));
            Span spans[Tile<V>::MOST_SPANS];
            const int parts = tile.spans(block, count, spans);
            if (parts == 0) continue;
            keys_block.read(block, count);
            values_block.read(block, count);
            float *dk[BLOCK], *dv[BLOCK];
            for (int k = 0; k < count; k++) {
                dk[k] = float_row(call.dk, b, key_head, keys.row(block + k));
                dv[k] = float_row(call.dv, b, key_head, keys.row(block + k));
            }
            for (int s = 0; s < parts; s++) {
                const Span &span = spans[s];
                Base::with_vectors(span, [&](auto first, auto vectors) __attribute__((always_inline)) {
                    change<first(), vectors()>(tile, span, block, dropout);
                });
                const int lane = span.vector * LANES, lanes = std::min(span.vectors * LANES, tile.lanes - lane);
                const int at = span.first * TILE + lane, keys_here = span.last - span.first;
                add_gradients(weights.data() + at, TILE, keys_here, gradient_rows + lane, padded, lanes, call.size,
                              dv + span.first);
                add_gradients(changes.data() + at, TILE, keys_here, query_rows + lane, padded, lanes, call.size,
                              dk + span.first);
            }
            Base::add_weighted(spans, parts, keys_block.rows, changes.data(), padded, one, dq.data());
        }
        float *rows[TILE];
        for (int i = 0; i < TILE; i++) rows[i] = query_room.data() + i * padded;
        Base::to_rows(dq.data(), padded, rows);
        for (int i = 0; i < tile.lanes; i++) {
            float *to = float_row(call.dq, b, h, queries.row(first + i));
            for (int64_t d = 0; d < call.size; d++) to[d] += rows[i][d];
        }
    }

    // Tiles of a text in chunks such that every other one shares no key: those may be worked on at once.
    static int64_t chunk_tiles(const gs_attention &call, const Rows &queries, const Rows &keys) {
        const int64_t tiles = (queries.count + TILE - 1) / TILE;
        for (int64_t size = 8; size < tiles; size *= 2) {
            bool apart = true;
            for (int64_t next = 2 * size; next < tiles && apart; next += size) {
                const Tile<V> before(call, queries, keys, (next - size - 1) * TILE);
                apart = before.key_last <= Tile<V>(call, queries, keys, next * TILE).key_first;
            }
            if (apart) return size;
        }
        return std::max<int64_t>(tiles, 1);
    }
};

template <int V>
int backward(const gs_attention &call) {
    constexpr int TILE = V * LANES;
    const int64_t group = call.heads / call.key_heads;
    std::vector<int64_t> chunk(call.batch);
    int64_t most = 0;
    for (int64_t b = 0; b < call.batch; b++) {
        Rows queries(call.queries, b), keys(call.keys, b);
        chunk[b] = Backward<V>::chunk_tiles(call, queries, keys) * TILE;
        most = std::max(most, (queries.count + chunk[b] - 1) / chunk[b]);
    }
#pragma omp parallel num_threads(call.threads) if (call.threads > 1)
    {
        FlushToZero mode;
        Backward<V> work(call);
        for (int64_t colour = 0; colour < 2; colour++) {
            const int64_t chunks = (most + 1 - colour) / 2, tasks = call.batch * call.key_heads * chunks;
#pragma omp for schedule(dynamic)
            for (int64_t task = 0; task < tasks; task++) {
                int64_t b = task / (call.key_heads * chunks), key_head = task / chunks % call.key_heads;
                Rows queries(call.queries, b), keys(call.keys, b);
                int64_t start = (task % chunks * 2 + colour) * chunk[b];
                int64_t stop = std::min(start + chunk[b], queries.count);
                for (int64_t h = key_head * group; h < (key_head + 1) * group; h++)
                    for (int64_t first = start; first < stop; first += TILE) work.run(queries, keys, b, h, first);
            }
        }
    }
    return 0;
}

}  // namespace
