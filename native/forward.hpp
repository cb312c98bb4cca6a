// Attention forward: a tile of queries in the lanes, keys in blocks, softmax as it goes (Dao et al. 2022).
#pragma once
#include "tiles.hpp"

namespace {

template <int V>
struct Forward : Tiles<V> {
    using Base = Tiles<V>;
    using typename Base::Dropout;
    using typename Base::Tile;
    using Base::TILE;

    const gs_attention &call;
    const int64_t padded;
    std::vector<float> columns, out, scores, room;
    Block keys_block, values_block;
    vf most[V], sum[V];  // the largest score so far, in powers of two, and the sum of 2^(score - most)

    explicit Forward(const gs_attention &call)
        : call(call), padded(round_up(call.size)), columns(padded * TILE), out(padded * TILE), scores(BLOCK * TILE),
          room(padded * TILE), keys_block(padded), values_block(padded) {}

    // Scores of one block become weights; `factor` is what the sums so far shrink by.
    INLINE void weigh(const Tile &tile, const Rows &keys, int64_t first, int count, bool masked,
                      const Dropout &dropout, vf *largest, vf *factor) {
        const vf scale = splat(exponent_scale(call)), nothing = splat(-std::numeric_limits<float>::infinity());
        if (masked) {
            UNROLL for (int v = 0; v < V; v++) largest[v] = nothing;
            for (int k = 0; k < count; k++) {
                UNROLL for (int v = 0; v < V; v++) {
                    float *place = scores.data() + k * TILE + v * LANES;
                    vf s = choose(tile.sees(call, keys, first + k, v), load(place), nothing);
                    store(place, s);
                    largest[v] = maximum(largest[v], s);
                }
            }
        }
        UNROLL for (int v = 0; v < V; v++) {
            vf next = maximum(most[v], largest[v] * scale);
            factor[v] = exp2_below_one(most[v] - next);
            most[v] = next;
        }
        vf added[V] = {};
        for (int k = 0; k < count; k++) {
            uint32_t column = dropout.any ? Dropout::column(keys.row(first + k)) : 0;
            UNROLL for (int v = 0; v < V; v++) {
                float *place = scores.data() + k * TILE + v * LANES;
                vf p = exp2_below_one(load(place) * scale - most[v]);
                added[v] += p;
                if (dropout.any) p = choose(dropout.kept(column, v), p * dropout.factor, vf{});
                store(place, p);
            }
        }
        UNROLL for (int v = 0; v < V; v++) sum[v] = sum[v] * factor[v] + added[v];
    }

    // A tile begins with nothing, or with what other pieces of the pattern gave.
    void begin(const Rows &queries, const Tile &tile, int64_t b, int64_t h) {
        UNROLL for (int v = 0; v < V; v++) most[v] = splat(LOWEST), sum[v] = vf{};
        if (!call.resume) {
            std::fill(out.begin(), out.end(), 0.0f);
            return;
        }
        const float *lse = call.lse + lse_row(call, b, h);
        float old_most[TILE], old_sum[TILE];
        for (int i = 0; i < TILE; i++) {
            float old = lse[queries.row(tile.first + std::min(i, tile.lanes - 1))];
            bool is_new = old == -std::numeric_limits<float>::infinity();
            old_most[i] = is_new ? LOWEST : old * LOG2E;
            old_sum[i] = is_new ? 0.0f : 1.0f;
        }
        std::memcpy(most, old_most, sizeof most);
        std::memcpy(sum, old_sum, sizeof sum);
        const float *rows[TILE];
        Base::read_rows(call.out, call.out_type, queries, tile, b, h, call.size, padded, room.data(), rows);
        Base::to_columns(rows, padded, out.data());
    }

    void finish(const Rows &queries, const Tile &tile, int64_t b, int64_t h) {
        float *lse = call.lse + lse_row(call, b, h);
        float lses[TILE];
        vf inverse[V];
        UNROLL for (int v = 0; v < V; v++) {
            const vi empty = sum[v] == 0.0f;
            inverse[v] = choose(empty, vf{}, splat(1.0f) / sum[v]);
            vf value = (most[v] + log2_of(sum[v])) * LN2;
            value = choose(sum[v] == sum[v], value, sum[v]);
            store(lses + v * LANES, choose(empty, splat(-std::numeric_limits<float>::infinity()), value));
        }
        for (int64_t d = 0; d < call.size; d++)
            UNROLL for (int v = 0; v < V; v++) {
                float *place = out.data() + d * TILE + v * LANES;
                store(place, load(place) * inverse[v]);
            }
        Base::to_rows(out.data(), padded, room.data());
        for (int i = 0; i < tile.lanes; i++) {
            int64_t row = queries.row(tile.first + i);
            lse[row] = lses[i];
            write_row(room.data() + i * padded, call.out_type, call.size,
                      const_cast<char *>(row_of(call.out, call.out_type, b, h, row)));
        }
    }

    void run(const Rows &queries, const Rows &keys, int64_t b, int64_t h, int64_t first) {
        const int64_t key_head = h / (call.heads / call.key_heads);
        Tile tile(call, queries, keys, first);
        if (call.resume && tile.key_first == tile.key_last) return;
        Dropout dropout(call, queries, tile, b, h);
        const float *rows[TILE];
        begin(queries, tile, b, h);
        Base::read_rows(call.q, call.type, queries, tile, b, h, call.size, padded, room.data(), rows);
        Base::to_columns(rows, padded, columns.data());
        if (sign_of(call) != 1.0f)
            for (float &x : columns) x *= sign_of(call);
        for (int64_t key = tile.key_first; key < tile.key_last; key += BLOCK) {
            int count = int(std::min<int64_t>(BLOCK, tile.key_last - key));
            Meeting met = tile.meets(call, keys, key, key + count);
            if (met == NEVER) continue;
            keys_block.read(call.k, call.type, keys, b, key_head, key, count, call.size, padded);
            values_block.read(call.v, call.type, keys, b, key_head, key, count, call.size, padded);
            vf largest[V], factor[V];
            UNROLL for (int v = 0; v < V; v++) largest[v] = splat(-std::numeric_limits<float>::infinity());
            typename Base::Span spans[BLOCK];
            const int parts = Base::spans(call, tile, keys, key, count, met == SOMETIMES, spans);
            Base::dots(spans, parts, keys_block.rows, columns.data(), call.size, scores.data(), largest);
            weigh(tile, keys, key, count, met == SOMETIMES, dropout, largest, factor);
            Base::add_spans(spans, parts, values_block.rows, scores.data(), padded, factor, out.data());
        }
        finish(queries, tile, b, h);
    }
};

inline int64_t longest(const gs_attention &call) {
    if (call.queries.index == nullptr) return call.queries.rows;
    int64_t most = 0;
    for (int64_t b = 0; b < (call.queries.shared ? 1 : call.batch); b++)
        most = std::max(most, call.queries.offsets[b + 1] - call.queries.offsets[b]);
    return most;
}

template <int V>
int forward(const gs_attention &call) {
    constexpr int TILE = V * LANES;
    const int64_t tiles = (longest(call) + TILE - 1) / TILE, tasks = call.batch * call.heads * tiles;
#pragma omp parallel num_threads(call.threads) if (call.threads > 1 && tasks > 1)
    {
        FlushToZero mode;
        Forward<V> work(call);
#pragma omp for schedule(static)
        for (int64_t task = 0; task < tasks; task++) {
            int64_t b = task / (call.heads * tiles), h = task / tiles % call.heads, first = task % tiles * TILE;
            Rows queries(call.queries, b), keys(call.keys, b);
            if (first < queries.count) work.run(queries, keys, b, h, first);
        }
    }
    return 0;
}

}  // namespace
