// Attention backward: weights again from the log-sum-exp, five products a tile of queries and block of keys (Dao 2023).
#pragma once
#include "tiles.hpp"

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
struct Backward : Tiles<V> {
    using Base = Tiles<V>;
    using typename Base::Dropout;
    using typename Base::Tile;
    using Base::TILE;

    const gs_attention &call;
    const int64_t padded;
    std::vector<float> query_columns, query_room, gradient_columns, gradient_room, dq, weights, changes;
    const float *query_rows[TILE], *gradient_rows[TILE];
    Block keys_block, values_block;
    vf lse[V], delta[V];

    explicit Backward(const gs_attention &call)
        : call(call), padded(round_up(call.size)), query_columns(padded * TILE), query_room(padded * TILE),
          gradient_columns(padded * TILE), gradient_room(padded * TILE), dq(padded * TILE), weights(BLOCK * TILE),
          changes(BLOCK * TILE), keys_block(padded), values_block(padded) {}

    // Scores become weights, and gradients of weights those of scores, both as the products after them need them.
    INLINE void change(const Tile &tile, const Rows &keys, int64_t first, int count, bool masked,
                       const Dropout &dropout) {
        const vf scale = splat(exponent_scale(call));
        for (int k = 0; k < count; k++) {
            uint32_t column = dropout.any ? Dropout::column(keys.row(first + k)) : 0;
            UNROLL for (int v = 0; v < V; v++) {
                float *weight = weights.data() + k * TILE + v * LANES, *gradient = changes.data() + k * TILE + v * LANES;
                vf p = exp2_below_one(load(weight) * scale - lse[v]);
                vf dp = load(gradient);
                if (masked) {
                    // What nobody may see was not computed: there is anything there.
                    const vi sees = tile.sees(call, keys, first + k, v);
                    p = choose(sees, p, vf{});
                    dp = choose(sees, dp, vf{});
                }
                vf kept = p;
                if (dropout.any) {
                    vi keep = dropout.kept(column, v);
                    dp = choose(keep, dp * dropout.factor, vf{});
                    kept = choose(keep, p * dropout.factor, vf{});
                }
                store(weight, kept);
                store(gradient, p * (dp - delta[v]) * call.scale);
            }
        }
    }

    void begin(const Rows &queries, const Tile &tile, int64_t b, int64_t h) {
        const int64_t row = lse_row(call, b, h);
        float lses[TILE], deltas[TILE];
        for (int i = 0; i < TILE; i++) {
            int64_t place = row + queries.row(tile.first + std::min(i, tile.lanes - 1));
            bool empty = i >= tile.lanes || call.lse[place] == -std::numeric_limits<float>::infinity();
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

    void run(const Rows &queries, const Rows &keys, int64_t b, int64_t h, int64_t first) {
        const int64_t key_head = h / (call.heads / call.key_heads);
        Tile tile(call, queries, keys, first);
        if (tile.key_first == tile.key_last) return;
        Dropout dropout(call, queries, tile, b, h);
        begin(queries, tile, b, h);
        vf one[V], unused[V];
        UNROLL for (int v = 0; v < V; v++) one[v] = splat(1.0f), unused[v] = vf{};
        for (int64_t key = tile.key_first; key < tile.key_last; key += BLOCK) {
            int count = int(std::min<int64_t>(BLOCK, tile.key_last - key));
            Meeting met = tile.meets(call, keys, key, key + count);
            if (met == NEVER) continue;
            keys_block.read(call.k, call.type, keys, b, key_head, key, count, call.size, padded);
            values_block.read(call.v, call.type, keys, b, key_head, key, count, call.size, padded);
            typename Base::Span spans[BLOCK];
            const int parts = Base::spans(call, tile, keys, key, count, met == SOMETIMES, spans);
            Base::dots(spans, parts, keys_block.rows, query_columns.data(), call.size, weights.data(), unused);
            Base::dots(spans, parts, values_block.rows, gradient_columns.data(), call.size, changes.data(), unused);
            change(tile, keys, key, count, met == SOMETIMES, dropout);
            float *dk[BLOCK], *dv[BLOCK];
            for (int k = 0; k < count; k++) {
                dk[k] = float_row(call.dk, b, key_head, keys.row(key + k));
                dv[k] = float_row(call.dv, b, key_head, keys.row(key + k));
            }
            for (int s = 0; s < parts; s++) {
                const auto &span = spans[s];
                const int lane = span.vector * LANES, lanes = std::min(span.vectors * LANES, tile.lanes - lane);
                const int at = span.first * TILE + lane, keys_here = span.last - span.first;
                if (lanes <= 0) continue;
                add_gradients(weights.data() + at, TILE, keys_here, gradient_rows + lane, padded, lanes, call.size,
                              dv + span.first);
                add_gradients(changes.data() + at, TILE, keys_here, query_rows + lane, padded, lanes, call.size,
                              dk + span.first);
            }
            Base::add_spans(spans, parts, keys_block.rows, changes.data(), padded, one, dq.data());
        }
        Base::to_rows(dq.data(), padded, query_room.data());
        for (int i = 0; i < tile.lanes; i++) {
            float *to = float_row(call.dq, b, h, queries.row(first + i));
            for (int64_t d = 0; d < call.size; d++) to[d] += query_room[i * padded + d];
        }
    }

    // Tiles of a text in chunks such that every other one shares no key: those may be worked on at once.
    static int64_t chunk_tiles(const gs_attention &call, const Rows &queries, const Rows &keys) {
        const int64_t tiles = (queries.count + TILE - 1) / TILE;
        for (int64_t size = 8; size < tiles; size *= 2) {
            bool apart = true;
            for (int64_t next = 2 * size; next < tiles && apart; next += size) {
                Tile before(call, queries, keys, (next - size - 1) * TILE);
                apart = before.key_last <= Tile(call, queries, keys, next * TILE).key_first;
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
