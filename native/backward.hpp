// Attention backward: weights again from the log-sum-exp, five products a tile of queries and block of keys (Dao 2023).
#pragma once
#include "products.hpp"

namespace {

// to[key][d] += sum over lanes of weights[key][lane] * rows[lane][d], for `keys` keys and N vectors of columns from d;
// rows are EACH lanes joined.
template <int N, int K, typename Element, typename Number = typename Element::Number>
INLINE void add_outer(const Number *weights, int64_t stride, int keys, const Number *const *rows, int64_t d, int lanes,
                      float *const *to, int64_t size) {
    constexpr int EACH = Element::EACH;
    vf sum[K][N] = {};
    const Number *w[K];
    UNROLL for (int k = 0; k < K; k++) w[k] = weights + std::min(k, keys - 1) * stride;
    for (int i = 0; i * EACH < lanes; i++) {
        decltype(Element::steps(nullptr)) x[N];
        UNROLL for (int v = 0; v < N; v++) x[v] = Element::steps(rows[i] + (d + v * LANES) * EACH);
        UNROLL for (int k = 0; k < K; k++) {
            const auto y = Element::step(w[k] + i * EACH);
            UNROLL for (int v = 0; v < N; v++) sum[k][v] = Element::multiply_add(y, x[v], sum[k][v]);
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

template <typename Element, typename Number = typename Element::Number>
inline void add_gradients(const Number *weights, int64_t stride, int count, const Number *const *rows, int64_t padded,
                          int lanes, int64_t size, float *const *to) {
    constexpr int N = 4, K = REGISTERS / N;
    for (int64_t d = 0; d < padded; d += N * LANES) {
        int64_t vectors = std::min<int64_t>(N, (padded - d) / LANES);
        for (int k = 0; k < count; k += K) {
            int keys = std::min(K, count - k);
            const Number *w = weights + k * stride;
            switch (vectors) {
                case 1: add_outer<1, K, Element>(w, stride, keys, rows, d, lanes, to + k, size); break;
                case 2: add_outer<2, K, Element>(w, stride, keys, rows, d, lanes, to + k, size); break;
                case 3: add_outer<3, K, Element>(w, stride, keys, rows, d, lanes, to + k, size); break;
                default: add_outer<4, K, Element>(w, stride, keys, rows, d, lanes, to + k, size);
            }
        }
    }
}

template <int V, typename Element>
struct Backward : Products<V, Element> {
    using Base = Products<V, Element>;
    using typename Base::Number;
    using Base::EACH;
    using Base::KEYS;
    using Base::TILE;

    // Rows of a tile in both ways that they are multiplied: as columns, and EACH rows joined.
    struct Operand {
        const int64_t size, padded;
        Numbers<Number> columns, room, steps_room;
        const Number *rows[TILE], *steps[TILE / EACH];

        explicit Operand(int64_t size)
            : size(size), padded(round_up(size, 16 * EACH)), columns(padded * TILE), room(padded * TILE),
              steps_room(EACH == 1 ? 0 : padded * TILE) {}
        void read(const gs_tensor &x, int type, const Rows &queries, const Tile<V> &tile, int64_t b, int64_t h, float sign) {
            Base::read_rows(x, type, queries, tile, b, h, size, padded, room.data(), rows);
            Base::to_columns(rows, padded, sign, columns);
            Element::join(rows, TILE, size, padded, steps_room.data(), steps);
        }
    };

    // A tile of queries under way.
    struct Query {
        std::optional<Tile<V>> tile;
        std::optional<Dropout<V>> dropout;
        typename Distances<V>::Queries positions;
        Operand queries, gradients;
        Floats dq;
        // Weights are 2^((score - most) * scale - rest): by the log-sum-exp alone, most is 0.
        vf most[V], rest[V], delta[V];

        explicit Query(const gs_attention &call)
            : queries(call.size), gradients(call.value_size), dq(round_up(call.size, 16) * TILE) {}
    };

    const gs_attention &call;
    const int64_t padded;  // of queries and keys
    Floats weights, changes, room;
    Numbers<Number> rounded, joined;
    Block<Element> keys_block, values_block;
    Distances<V> distances;
    Ahead<V, 8> ahead;
    std::vector<Query> tiles;

    // Works on up to `together` tiles at once.
    Backward(const gs_attention &call, const Tables &tables, int together)
        : call(call), padded(round_up(call.size, 16)), weights((BLOCK + SPARE) * TILE), changes((BLOCK + SPARE) * TILE),
          room(padded * TILE), rounded(EACH == 1 ? 0 : BLOCK * TILE), joined(rounded.size()),
          keys_block(call.k, call.type, call.size), values_block(call.v, call.type, call.value_size),
          distances(tables, call.distances.gradient != nullptr) {
        tiles.reserve(together);
        while (tiles.size() < tiles.capacity()) tiles.emplace_back(call);
    }

    // Of a span: scores become weights, and gradients of weights those of scores, both as the products after them need them.
    template <int F, int A>
    INLINE void change(const Query &query, const Span &span, int64_t block) {
        products<F, A>(span, keys_block.rows, query.queries.columns.data(), call.size, weights.data());
        products<F, A>(span, values_block.rows, query.gradients.columns.data(), call.value_size, changes.data());
        if (query.dropout->any) {
            turn<F, A, true>(query, span, block);
        } else {
            turn<F, A, false>(query, span, block);
        }
    }

    template <int F, int A>
    INLINE void products(const Span &span, const Number *const *rows, const Number *columns, int64_t size, float *to) {
        for (int k = span.first; k < span.last; k += KEYS) {
            ahead.ask();
            const Number *some[KEYS];
            UNROLL for (int i = 0; i < KEYS; i++) some[i] = rows[std::min(k + i, span.last - 1)];
            vf found[KEYS][A];
            Base::template dot<A>(some, columns + F * LANES * EACH, size, found);
            UNROLL for (int i = 0; i < KEYS; i++)
                UNROLL for (int v = 0; v < A; v++) store(to + (k + i) * TILE + (F + v) * LANES, found[i][v]);
        }
    }

    template <int F, int A, bool DROPS>
    INLINE void turn(const Query &query, const Span &span, int64_t block) {
        const Tile<V> &tile = *query.tile;
        const Dropout<V> &dropout = *query.dropout;
        const vf scale = splat(exponent_scale(call)), outer = splat(call.scale), size = splat(std::fabs(call.scale));
        const bool adds = distances.there(), learns = distances.learns();
        float *const at = weights.data() + F * LANES, *const gradients = changes.data() + F * LANES;
        for (int k = span.first; k < span.last; k++) {
            const uint32_t column = DROPS ? Dropout<V>::column(tile.keys.row(block + k)) : 0;
            const bool clear = span.clear(k, k + 1);
            UNROLL for (int v = 0; v < A; v++) {
                float *weight = at + k * TILE + v * LANES, *gradient = gradients + k * TILE + v * LANES;
                vf score = load(weight);
                if (adds) score = score * size + load(distances.rows[k] + (F + v) * LANES);
                vf p = exp2_below_one((score - query.most[F + v]) * scale - query.rest[F + v]);
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
                const vf changed = p * (dp - query.delta[F + v]);
                if (learns) distances.add(query.positions, k, F + v, changed);
                store(gradient, changed * outer);
            }
        }
    }

    // What the gradients of a row's weights have in common: sum(dout * out) - dlse.
    float delta_of(int64_t row, int64_t place, int64_t b, int64_t h) const {
        const int type = call.out_type;
        const float sum = dot_rows(row_of(call.out, type, b, h, row), row_of(call.dout, type, b, h, row), type, call.value_size);
        return call.dlse == nullptr ? sum : sum - call.dlse[place];
    }

    const Tile<V> &open(Query &query, const Rows &queries, const Rows &keys, int64_t b, int64_t h, int64_t first) {
        const Tile<V> &tile = query.tile.emplace(call, queries, keys, first, EACH);
        if (call.resume && tile.key_first == tile.key_last) return tile;
        query.dropout.emplace(call, queries, tile, b, h);
        if (distances.there()) distances.open(query.positions, queries, tile.first, tile.lanes, b);
        const int64_t row = lse_row(call, b, h);
        float mosts[TILE], rests[TILE], deltas[TILE];
        for (int i = 0; i < TILE; i++) {
            int64_t place = row + queries.row(tile.first + std::min(i, tile.lanes - 1));
            const bool empty = i >= tile.lanes || call.lse[place] == -INFINITE, exact = call.most != nullptr;
            mosts[i] = exact && !empty ? call.most[place] : 0.0f;
            rests[i] = empty ? -LOWEST : exact ? std::log2(call.sum[place]) : call.lse[place] * LOG2E;
            deltas[i] = i < tile.lanes ? delta_of(queries.row(tile.first + i), place, b, h) : 0.0f;
        }
        std::memcpy(query.most, mosts, sizeof mosts);
        std::memcpy(query.rest, rests, sizeof rests);
        std::memcpy(query.delta, deltas, sizeof deltas);
        query.queries.read(call.q, call.type, queries, tile, b, h, sign_of(call));
        query.gradients.read(call.dout, call.out_type, queries, tile, b, h, 1.0f);
        std::fill(query.dq.begin(), query.dq.end(), 0.0f);
        return tile;
    }

    void look_ahead(const Rows &queries, const Tile<V> &tile, int64_t b, int64_t h) {
        const int64_t key_head = h / (call.heads / call.key_heads), next = tile.first + TILE, last = tile.key_last;
        ahead.count = ahead.asked = 0;
        if (next >= queries.count) return;
        ahead.add(call.dq, call.resume ? int(GS_FLOAT32) : call.type, call.size, b, h, queries, tile.first, next);
        ahead.add(call.q, call.type, call.size, b, h, queries, next, next + TILE);
        ahead.add(call.dout, call.out_type, call.value_size, b, h, queries, next, next + TILE);
        ahead.add(call.out, call.out_type, call.value_size, b, h, queries, next, next + TILE);
        ahead.add(call.k, call.type, call.size, b, key_head, tile.keys, last, last + TILE);
        ahead.add(call.v, call.type, call.value_size, b, key_head, tile.keys, last, last + TILE);
        ahead.add(call.dk, GS_FLOAT32, call.size, b, key_head, tile.keys, last, last + TILE);
        ahead.add(call.dv, GS_FLOAT32, call.value_size, b, key_head, tile.keys, last, last + TILE);
        ahead.spread(2 * (last - tile.key_first) / KEYS);
    }

    // `some` queries from `first` on, whose tiles see keys from the same one on where there are several.
    void run(const Rows &queries, const Rows &keys, int64_t b, int64_t h, int64_t first, int64_t some) {
        const int64_t key_head = h / (call.heads / call.key_heads);
        int count = 0;
        int64_t key_first = keys.count, key_last = 0;
        for (; count < int(tiles.size()) && count * TILE < some; count++) {
            const Tile<V> &tile = open(tiles[count], queries, keys, b, h, first + count * TILE);
            key_first = std::min(key_first, tile.key_first);
            key_last = std::max(key_last, tile.key_last);
        }
        look_ahead(queries, *tiles[count - 1].tile, b, h);
        for (Block<Element> *one : {&keys_block, &values_block})
            one->hold(keys, b, key_head, key_first, key_last, queries.count > TILE);
        for (int64_t block = key_first; block < key_last; block += BLOCK) {
            const int keys_here = int(std::min<int64_t>(BLOCK, key_last - block));
            bool is_read = false;
            for (int i = 0; i < count; i++) is_read = meet(tiles[i], keys, b, h, block, keys_here, is_read);
        }
        for (int i = 0; i < count; i++) finish(tiles[i], queries, b, h);
    }

    // A tile meets a block of keys, which is read when the first one needs it; returns whether it is read.
    bool meet(Query &query, const Rows &keys, int64_t b, int64_t h, int64_t block, int keys_here, bool is_read) {
        const Tile<V> &tile = *query.tile;
        const int64_t key_head = h / (call.heads / call.key_heads);
        const int count = int(std::min<int64_t>(keys_here, tile.key_last - block));
        if (count <= 0) return is_read;
        Span spans[Tile<V>::MOST_SPANS];
        const int parts = tile.spans(block, count, spans);
        if (parts == 0) return is_read;
        if (!is_read) {
            keys_block.read(block, keys_here);
            keys_block.join(keys_here);
            values_block.read(block, keys_here);
        }
        if (distances.there()) distances.meet(query.positions, keys, b, h, block, count);
        float *dk[BLOCK], *dv[BLOCK];
        for (int k = 0; k < count; k++) {
            dk[k] = float_row(call.dk, b, key_head, keys.row(block + k));
            dv[k] = float_row(call.dv, b, key_head, keys.row(block + k));
        }
        for (int s = 0; s < parts; s++) {
            const Span &span = spans[s];
            Base::with_vectors(span, [&](auto first, auto vectors) __attribute__((always_inline)) {
                change<first(), vectors()>(query, span, block);
            });
            const int lane = span.vector * LANES, lanes = std::min(span.vectors * LANES, tile.lanes - lane);
            const int at = span.first * TILE + lane, wide = span.last - span.first;
            add_gradients<Element>(Base::by_lane(span, weights.data(), rounded) + at, TILE, wide,
                                   query.gradients.steps + lane / EACH, round_up(call.value_size, 16), lanes, call.value_size,
                                   dv + span.first);
            add_gradients<Element>(Base::by_lane(span, changes.data(), rounded) + at, TILE, wide,
                                   query.queries.steps + lane / EACH, padded, lanes, call.size, dk + span.first);
        }
        vf one[V];
        UNROLL for (int v = 0; v < V; v++) one[v] = splat(1.0f);
        const Number *changed = Base::by_key(spans, parts, changes.data(), joined);
        Base::add_weighted(spans, parts, keys_block.steps, changed, padded, one, query.dq.data());
        return true;
    }

    void finish(Query &query, const Rows &queries, int64_t b, int64_t h) {
        const Tile<V> &tile = *query.tile;
        if (call.resume && tile.key_first == tile.key_last) return;
        const bool in_place = !call.resume && call.type == GS_FLOAT32 && call.size == padded;
        float *rows[TILE];
        for (int i = 0; i < TILE; i++) {
            rows[i] = room.data() + i * padded;
            if (in_place && i < tile.lanes) rows[i] = float_row(call.dq, b, h, queries.row(tile.first + i));
        }
        Base::to_rows(query.dq.data(), padded, rows);
        if (in_place) return;
        for (int i = 0; i < tile.lanes; i++) {
            const int64_t row = queries.row(tile.first + i);
            if (call.resume) {
                float *to = float_row(call.dq, b, h, row);
                for (int64_t d = 0; d < call.size; d++) to[d] += rows[i][d];
            } else {
                write_row(rows[i], call.type, call.size, const_cast<char *>(row_of(call.dq, call.type, b, h, row)));
            }
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

template <int V, typename Element>
int backward(const gs_attention &call) {
    constexpr int TILE = V * LANES;
    const int together = tiles_together<Element>(call);
    const int64_t step = int64_t(together) * TILE;
    const int64_t group = call.heads / call.key_heads;
    const int64_t lists = call.queries.lists == GS_BY_HEAD ? call.heads : 1;  // of one text
    std::vector<int64_t> chunk(call.batch * lists);
    int64_t most = 0;
    for (size_t i = 0; i < chunk.size(); i++) {
        Rows queries(call.queries, i / lists, i % lists, lists), keys(call.keys, i / lists, i % lists, lists);
        chunk[i] = Backward<V, Element>::chunk_tiles(call, queries, keys) * TILE;
        most = std::max(most, (queries.count + chunk[i] - 1) / chunk[i]);
    }
    const Tables tables(call);
    std::vector<ColumnSums> columns(call.distances.gradient == nullptr ? 0 : call.batch * call.heads * most);
#pragma omp parallel num_threads(call.threads) if (call.threads > 1)
    {
        FlushToZero mode;
        Backward<V, Element> work(call, tables, together);
        for (int64_t colour = 0; colour < 2; colour++) {
            const int64_t chunks = (most + 1 - colour) / 2, tasks = call.batch * call.key_heads * chunks;
#pragma omp for schedule(dynamic)
            for (int64_t task = 0; task < tasks; task++) {
                int64_t b = task / (call.key_heads * chunks), key_head = task / chunks % call.key_heads;
                Rows queries(call.queries, b, key_head, lists), keys(call.keys, b, key_head, lists);
                const int64_t size = chunk[b * lists + (lists > 1 ? key_head : 0)];
                int64_t start = (task % chunks * 2 + colour) * size;
                int64_t stop = std::min(start + size, queries.count);
                for (int64_t h = key_head * group; h < (key_head + 1) * group; h++) {
                    for (int64_t first = start; first < stop; first += step)
                        work.run(queries, keys, b, h, first, std::min(step, stop - first));
                    if (!columns.empty())
                        columns[(b * call.heads + h) * most + task % chunks * 2 + colour] = work.distances.take();
                }
            }
        }
    }
    if (!columns.empty()) add_columns(call, columns);
    return 0;
}

}  // namespace
