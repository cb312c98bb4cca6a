// Attention forward: a tile of queries in the lanes, keys in blocks, softmax as it goes (Dao et al. 2022).
#pragma once
#include "products.hpp"

namespace {

template <int V, typename Element>
struct Forward : Products<V, Element> {
    using Base = Products<V, Element>;
    using Floating = Products<V, Single>;
    using typename Base::Number;
    using Base::EACH;
    using Base::KEYS;
    using Base::TILE;

    // A tile of queries under way.
    struct Query {
        std::optional<Tile<V>> tile;
        std::optional<Dropout<V>> dropout;
        typename Distances<V>::Queries positions;
        Floats out;
        Numbers<Number> columns;
        vf most[V], sum[V];  // the largest score so far, as products have it, and the sum of exp(|scale| * (score - most))
    };

    const gs_attention &call;
    const int64_t padded, row_size;  // of values; of queries
    Floats scores, room;
    Numbers<Number> query_room, joined;
    Block<Element> keys_block, values_block;
    Distances<V> distances;
    Ahead<V, 4> ahead;
    std::vector<Query> tiles;

    // Works on up to `together` tiles at once.
    Forward(const gs_attention &call, const Tables &tables, int together)
        : call(call), padded(round_up(call.value_size, 16)), row_size(round_up(call.size, 16 * EACH)),
          scores((BLOCK + SPARE) * TILE), room(padded * TILE), query_room(row_size * TILE),
          joined(EACH == 1 ? 0 : BLOCK * TILE), keys_block(call.k, call.type, call.size),
          values_block(call.v, call.type, call.value_size), distances(tables, false), tiles(together) {
        for (Query &one : tiles) one.out = Floats(padded * TILE), one.columns = Numbers<Number>(row_size * TILE);
    }

    // Scores of a span: of pairs that do not see each other -infinity. `largest` grows to the largest of each lane.
    template <int F, int A, bool ADDS>
    INLINE void score(const Query &query, const Span &span, int64_t block, vf *largest) {
        int k = span.first;
        for (; k + KEYS <= span.last; k += KEYS) {
            ahead.ask();
            if (span.clear(k, k + KEYS)) {
                score_keys<F, A, false, ADDS>(query, keys_block.rows + k, distances.rows + k, k, block, KEYS, largest);
            } else {
                score_keys<F, A, true, ADDS>(query, keys_block.rows + k, distances.rows + k, k, block, KEYS, largest);
            }
        }
        if (k == span.last) return;
        const Number *rows[KEYS];
        const float *added[KEYS];
        for (int i = 0; i < KEYS; i++) {
            rows[i] = keys_block.rows[std::min(k + i, span.last - 1)];
            added[i] = distances.rows[std::min(k + i, span.last - 1)];
        }
        score_keys<F, A, true, ADDS>(query, rows, added, k, block, span.last - k, largest);
    }

    // KEYS keys; of those behind the first `count`, which nobody reads, the last of these is written.
    template <int F, int A, bool MASKED, bool ADDS>
    INLINE void score_keys(const Query &query, const Number *const *rows, const float *const *added, int k, int64_t block,
                           int count, vf *largest) {
        vf found[KEYS][A];
        Base::template dot<A>(rows, query.columns.data() + F * LANES * EACH, call.size, found);
        if constexpr (ADDS) {
            const vf scale = splat(std::fabs(call.scale));
            UNROLL for (int i = 0; i < KEYS; i++)
                UNROLL for (int v = 0; v < A; v++) found[i][v] = found[i][v] * scale + load(added[i] + (F + v) * LANES);
        }
        float *to = scores.data() + k * TILE + F * LANES;
        UNROLL for (int i = 0; i < KEYS; i++) {
            UNROLL for (int v = 0; v < A; v++) {
                if constexpr (MASKED) {
                    const vi sees = query.tile->sees(block + k + std::min(i, count - 1), F + v);
                    found[i][v] = choose(sees, found[i][v], splat(-INFINITE));
                }
                store(to + i * TILE + v * LANES, found[i][v]);
            }
        }
        UNROLL for (int v = 0; v < A; v++) {
            UNROLL for (int i = 1; i < KEYS; i++) found[0][v] = maximum(found[0][v], found[i][v]);
            largest[F + v] = maximum(largest[F + v], found[0][v]);
        }
    }

    // Scores become weights; `factor` is what the sums so far shrink by.
    INLINE void weigh(Query &query, const Span *spans, int parts, int64_t block, const vf *largest, vf *factor) {
        vf *const most = query.most, *const sum = query.sum;
        const Dropout<V> &dropout = *query.dropout;
        UNROLL for (int v = 0; v < V; v++) {
            // Before the scale, where they are exact: large scores times it would be rounded by more than they differ.
            vf next = maximum(most[v], largest[v]);
            factor[v] = exp2_below_one((most[v] - next) * splat(exponent_scale(call)));
            most[v] = next;
            sum[v] *= factor[v];
        }
        for (int s = 0; s < parts; s++)
            Base::with_vectors(spans[s], [&](auto first, auto vectors) __attribute__((always_inline)) { weigh_span<first(), vectors()>(query, spans[s]); });
        if (!dropout.any) return;
        for (int k = 0; k < spans[parts - 1].last; k++) {
            const uint32_t column = Dropout<V>::column(query.tile->keys.row(block + k));
            UNROLL for (int v = 0; v < V; v++) {
                float *place = scores.data() + k * TILE + v * LANES;
                store(place, choose(dropout.kept(column, v), load(place) * dropout.factor, vf{}));
            }
        }
    }

    template <int F, int A>
    INLINE void weigh_span(Query &query, const Span &span) {
        const vf scale = splat(exponent_scale(call));
        float *const at = scores.data() + F * LANES;
        vf highest[A], added[A];
        UNROLL for (int v = 0; v < A; v++) highest[v] = query.most[F + v], added[v] = vf{};
        for (int k = span.first; k < span.last; k++) {
            UNROLL for (int v = 0; v < A; v++) {
                float *place = at + k * TILE + v * LANES;
                vf p = exp2_below_one((load(place) - highest[v]) * scale);
                added[v] += p;
                store(place, p);
            }
        }
        UNROLL for (int v = 0; v < A; v++) query.sum[F + v] += added[v];
    }

    // A tile begins with nothing, or with what other pieces of the pattern gave.
    void begin(Query &query, const Rows &queries, int64_t b, int64_t h) {
        const Tile<V> &tile = *query.tile;
        vf *const most = query.most, *const sum = query.sum;
        Floats &out = query.out;
        UNROLL for (int v = 0; v < V; v++) most[v] = splat(LOWEST), sum[v] = vf{};
        if (!call.resume) {
            std::fill(out.begin(), out.end(), 0.0f);
            return;
        }
        float old_most[TILE], old_sum[TILE];
        for (int i = 0; i < TILE; i++) {
            const int64_t place = lse_row(call, b, h) + queries.row(tile.first + std::min(i, tile.lanes - 1));
            old_most[i] = call.most[place];
            old_sum[i] = call.sum[place];
        }
        std::memcpy(most, old_most, sizeof old_most);
        std::memcpy(sum, old_sum, sizeof old_sum);
        const float *rows[TILE];
        Floating::read_rows(call.out, call.out_type, queries, tile, b, h, call.value_size, padded, room.data(), rows);
        Floating::to_columns(rows, padded, 1.0f, out);
        for (int64_t d = 0; d < call.value_size; d++)
            UNROLL for (int v = 0; v < V; v++) {
                float *place = out.data() + d * TILE + v * LANES;
                store(place, load(place) * sum[v]);
            }
    }

    void finish(Query &query, const Rows &queries, int64_t b, int64_t h) {
        const Tile<V> &tile = *query.tile;
        const vf *const most = query.most, *const sum = query.sum;
        Floats &out = query.out;
        float lses[TILE], mosts[TILE], sums[TILE];
        vf inverse[V];
        UNROLL for (int v = 0; v < V; v++) {
            const vi empty = sum[v] == 0.0f;
            inverse[v] = choose(empty, vf{}, splat(1.0f) / sum[v]);
            vf value = most[v] * splat(size_of_scale(call)) + log2_of(sum[v]) * LN2;
            value = choose(sum[v] == sum[v], value, sum[v]);
            store(lses + v * LANES, choose(empty, splat(-INFINITE), value));
        }
        std::memcpy(mosts, most, sizeof mosts);
        std::memcpy(sums, sum, sizeof sums);
        for (int64_t d = 0; d < call.value_size; d++)
            UNROLL for (int v = 0; v < V; v++) {
                float *place = out.data() + d * TILE + v * LANES;
                store(place, load(place) * inverse[v]);
            }
        const bool in_place = call.out_type == GS_FLOAT32 && call.value_size == padded;
        float *rows[TILE];
        for (int i = 0; i < TILE; i++) {
            rows[i] = room.data() + i * padded;
            if (i >= tile.lanes) continue;
            const int64_t row = queries.row(tile.first + i);
            const int64_t place = lse_row(call, b, h) + row;
            call.lse[place] = lses[i];
            if (call.most != nullptr) call.most[place] = mosts[i], call.sum[place] = sums[i];
            if (in_place) rows[i] = float_row(call.out, b, h, row);
        }
        Base::to_rows(out.data(), padded, rows);
        if (in_place) return;
        for (int i = 0; i < tile.lanes; i++)
            write_row(rows[i], call.out_type, call.value_size,
                      const_cast<char *>(row_of(call.out, call.out_type, b, h, queries.row(tile.first + i))));
    }

    void look_ahead(const Rows &queries, const Tile<V> &tile, int64_t b, int64_t h) {
        const int64_t key_head = h / (call.heads / call.key_heads), next = tile.first + TILE;
        ahead.count = ahead.asked = 0;
        if (next >= queries.count) return;
        ahead.add(call.out, call.out_type, call.value_size, b, h, queries, tile.first, next);
        ahead.add(call.q, call.type, call.size, b, h, queries, next, next + TILE);
        ahead.add(call.k, call.type, call.size, b, key_head, tile.keys, tile.key_last, tile.key_last + TILE);
        ahead.add(call.v, call.type, call.value_size, b, key_head, tile.keys, tile.key_last, tile.key_last + TILE);
        ahead.spread((tile.key_last - tile.key_first) / KEYS);
    }

    // Tiles from `first` on; several of them see keys from the same one on.
    void run(const Rows &queries, const Rows &keys, int64_t b, int64_t h, int64_t first) {
        const int64_t key_head = h / (call.heads / call.key_heads);
        int count = 0;
        int64_t key_first = keys.count, key_last = 0;
        for (; count < int(tiles.size()) && first + count * TILE < queries.count; count++) {
            open(tiles[count], queries, keys, b, h, first + count * TILE);
            key_first = std::min(key_first, tiles[count].tile->key_first);
            key_last = std::max(key_last, tiles[count].tile->key_last);
        }
        look_ahead(queries, *tiles[count - 1].tile, b, h);
        for (Block<Element> *one : {&keys_block, &values_block})
            one->hold(keys, b, key_head, key_first, key_last, queries.count > TILE);
        for (int64_t block = key_first; block < key_last; block += BLOCK) {
            const int keys_here = int(std::min<int64_t>(BLOCK, key_last - block));
            bool is_read = false;
            for (int i = 0; i < count; i++) is_read = meet(tiles[i], b, h, block, keys_here, is_read);
        }
        for (int i = 0; i < count; i++)
            if (!call.resume || tiles[i].tile->key_first < tiles[i].tile->key_last) finish(tiles[i], queries, b, h);
    }

    void open(Query &query, const Rows &queries, const Rows &keys, int64_t b, int64_t h, int64_t first) {
        const Tile<V> &tile = query.tile.emplace(call, queries, keys, first, EACH);
        if (call.resume && tile.key_first == tile.key_last) return;
        query.dropout.emplace(call, queries, tile, b, h);
        if (distances.there()) distances.open(query.positions, queries, tile.first, tile.lanes, b);
        const Number *rows[TILE];
        begin(query, queries, b, h);
        Base::read_rows(call.q, call.type, queries, tile, b, h, call.size, row_size, query_room.data(), rows);
        Base::to_columns(rows, row_size, sign_of(call), query.columns);
    }

    // A tile meets a block of keys, which is read when the first one needs it; returns whether it is read.
    bool meet(Query &query, int64_t b, int64_t h, int64_t block, int keys_here, bool is_read) {
        const Tile<V> &tile = *query.tile;
        const int count = int(std::min<int64_t>(keys_here, tile.key_last - block));
        if (count <= 0) return is_read;
        Span spans[Tile<V>::MOST_SPANS];
        const int parts = tile.spans(block, count, spans);
        if (parts == 0) return is_read;
        if (!is_read) {
            keys_block.read(block, keys_here);
            values_block.read(block, keys_here);
            values_block.join(keys_here);
        }
        if (distances.there()) distances.meet(query.positions, tile.keys, b, h, block, count);
        vf largest[V], factor[V];
        UNROLL for (int v = 0; v < V; v++) largest[v] = splat(-INFINITE);
        for (int s = 0; s < parts; s++)
            Base::with_vectors(spans[s], [&](auto first, auto vectors) __attribute__((always_inline)) {
                if (distances.there()) {
                    score<first(), vectors(), true>(query, spans[s], block, largest);
                } else {
                    score<first(), vectors(), false>(query, spans[s], block, largest);
                }
            });
        weigh(query, spans, parts, block, largest, factor);
        const Number *weights = Base::by_key(spans, parts, scores.data(), joined);
        Base::add_weighted(spans, parts, values_block.steps, weights, padded, factor, query.out.data());
        return true;
    }
};

inline int64_t longest(const gs_attention &call) {
    if (call.queries.index == nullptr) return call.queries.rows;
    int64_t most = 0;
    const int64_t lists = call.queries.lists == GS_SHARED ? 1 : call.queries.lists == GS_BY_HEAD ? call.batch * call.heads : call.batch;
    for (int64_t i = 0; i < lists; i++) most = std::max(most, call.queries.offsets[i + 1] - call.queries.offsets[i]);
    return most;
}

template <int V, typename Element>
int forward(const gs_attention &call) {
    const int64_t tiles = call.batch * call.heads * ((longest(call) + V * LANES - 1) / (V * LANES));
    int together = tiles_together<Element>(call);
    // Fewer where threads would go without work; no number depends on it.
    while (together > 1 && tiles < 4 * together * call.threads) together /= 2;
    const Tables tables(call);
    const int64_t step = together * V * LANES;
    const int64_t steps = (longest(call) + step - 1) / step, tasks = call.batch * call.heads * steps;
#pragma omp parallel num_threads(call.threads) if (call.threads > 1 && tasks > 1)
    {
        FlushToZero mode;
        Forward<V, Element> work(call, tables, together);
#pragma omp for schedule(static)
        for (int64_t task = 0; task < tasks; task++) {
            int64_t b = task / (call.heads * steps), h = task / steps % call.heads, first = task % steps * step;
            Rows queries(call.queries, b, h, call.heads), keys(call.keys, b, h, call.heads);
            if (first < queries.count) work.run(queries, keys, b, h, first);
        }
    }
    return 0;
}

}  // namespace
