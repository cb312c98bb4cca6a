// Queries in tiles, and which of them may meet which keys.
#pragma once
#include <algorithm>
#include <limits>
#include <type_traits>

#include "rows.hpp"

namespace {

constexpr int64_t FAR = int64_t(1) << 40;  // stands for no bound

constexpr float LOG2E = 1.44269504088896341f;
constexpr float LN2 = 0.69314718055994531f;
constexpr float LOWEST = -std::numeric_limits<float>::max();
constexpr float INFINITE = std::numeric_limits<float>::infinity();

// Murmur3's finaliser; kernels/dropout.py is the definition.
INLINE uint32_t mix(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    return x ^ (x >> 16);
}

// Keys first .. last of a block and the vectors of queries that see any of them: what lies beside is not computed.
// All these queries see the keys clear_first .. clear_last.
struct Span {
    int first, last, vector, vectors, clear_first, clear_last;

    INLINE bool clear(int from, int to) const { return from >= clear_first && to <= clear_last; }
};

// Queries first .. first + lanes of a text in V vectors, with what decides whom they see.
template <int V>
struct Tile {
    static constexpr int TILE = V * LANES;
    static constexpr int MOST_SPANS = 2 * V + 1;

    const gs_attention &call;
    const Rows &keys;
    int64_t first;
    int lanes;
    vi band[V], second[V], met[GS_MOST_MET][V];
    int64_t second_least, second_most;
    int64_t key_first, key_last;  // places of the keys that any query may see
    int64_t from[V], to[V];       // and any query of one vector
    int64_t clear_from[V], clear_to[V];  // and that every query of the vector sees, as far as the first coordinate goes

    // `each`: of so many keys, counted from the first, a vector sees all or none, though it may not see them in truth.
    Tile(const gs_attention &call, const Rows &queries, const Rows &keys, int64_t start, int each = 1)
        : call(call), keys(keys), first(start), lanes(int(std::min<int64_t>(TILE, queries.count - start))) {
        int32_t bands[TILE], seconds[TILE];
        read(queries, queries.band, bands);
        std::memcpy(band, bands, sizeof band);
        if (queries.second != nullptr) {
            read(queries, queries.second, seconds);
            std::memcpy(second, seconds, sizeof second);
            second_least = *std::min_element(seconds, seconds + lanes);
            second_most = *std::max_element(seconds, seconds + lanes);
        }
        for (int64_t i = 0; i < queries.met_count; i++) {
            int32_t coordinates[TILE];
            read(queries, queries.met + i * queries.met_stride, coordinates);
            std::memcpy(met[i], coordinates, sizeof met[i]);
        }
        find_keys(bands);
        if (each > 1) widen_to(each);
    }

    // Which queries of one vector see the key at a place. The caller sees to it that differences fit 32 bits.
    INLINE vi sees(int64_t place, int v) const {
        vi apart = splat(int32_t(keys.coordinate(place))) - band[v];
        vi mask = (apart >= splat(bounded(call.band_low))) & (apart <= splat(bounded(call.band_high)));
        if (keys.second != nullptr) {
            vi other = splat(keys.second[place]) - second[v];
            mask &= (other >= splat(bounded(call.second_low))) & (other <= splat(bounded(call.second_high)));
        }
        for (int64_t i = 0; i < keys.met_count; i++) {
            vi other = splat(keys.met[i * keys.met_stride + place]) - met[i][v];
            mask &= (other < splat(bounded(call.band_low))) | (other > splat(bounded(call.band_high)));
        }
        return mask;
    }

    // The spans of a block of keys, at most MOST_SPANS; returns how many.
    int spans(int64_t block, int count, Span *out) const {
        const Meeting meeting = by_second(block, block + count);
        if (meeting == NEVER) return 0;
        if (meeting == ALWAYS && clear_from[V - 1] <= block && block + count <= clear_to[0]) {
            out[0] = {0, count, 0, V, 0, count};
            return 1;
        }
        int64_t cuts[2 * V + 2];
        const int intervals = find_cuts(block, block + count, cuts);
        int found = 0;
        for (int i = 0; i < intervals; i++) {
            int vector = 0, stop = V;
            while (vector < V && !(from[vector] <= cuts[i] && cuts[i + 1] <= to[vector])) vector++;
            while (stop > vector && !(from[stop - 1] <= cuts[i] && cuts[i + 1] <= to[stop - 1])) stop--;
            if (vector == stop) continue;
            int64_t clear_first = block, clear_last = meeting == ALWAYS ? block + count : block;
            for (int v = vector; v < stop; v++) {
                clear_first = std::max(clear_first, clear_from[v]);
                clear_last = std::min(clear_last, clear_to[v]);
            }
            out[found++] = {int(cuts[i] - block), int(cuts[i + 1] - block), vector, stop - vector,
                            int(std::min(clear_first - block, int64_t(count))), int(std::max(clear_last - block, int64_t(0)))};
        }
        return found;
    }

   private:
    enum Meeting { NEVER, SOMETIMES, ALWAYS };

    // One coordinate of every query; lanes behind the last query repeat it.
    void read(const Rows &queries, const int32_t *list, int32_t *to) const {
        for (int i = 0; i < lanes; i++) to[i] = list == nullptr ? int32_t(queries.start + first + i) : list[first + i];
        for (int i = lanes; i < TILE; i++) to[i] = to[lanes - 1];
    }

    void find_keys(const int32_t *bands) {
        for (int v = 0; v < V; v++) {
            const int64_t least = bands[v * LANES], most = bands[v * LANES + LANES - 1];
            const bool empty = v * LANES >= lanes;  // a vector without queries
            to[v] = empty ? 0 : place_of(call.band_high, most + 1);
            from[v] = empty ? to[v] : std::min(to[v], place_of(call.band_low, least));
            clear_from[v] = empty ? keys.count : place_of(call.band_low, most);
            clear_to[v] = empty ? 0 : place_of(call.band_high, least + 1);
        }
        key_first = *std::min_element(from, from + (lanes + LANES - 1) / LANES);
        key_last = *std::max_element(to, to + V);
    }

    void widen_to(int each) {
        for (int v = 0; v < V; v++) {
            if (from[v] == to[v]) continue;
            from[v] -= (from[v] - key_first) % each;
            to[v] = std::min(key_first + round_up(to[v] - key_first, each), key_last);
        }
    }

    // The first key that lies at `bound` or more from a coordinate.
    INLINE int64_t place_of(int64_t bound, int64_t coordinate) const {
        return bound <= -FAR ? 0 : bound >= FAR ? keys.count : keys.place(coordinate + bound);
    }

    // Whether queries see all, some or none of the keys from .. to, as far as the second coordinate goes.
    Meeting by_second(int64_t start, int64_t stop) const {
        const Meeting most_often = keys.met_count > 0 ? SOMETIMES : ALWAYS;
        if (keys.second == nullptr) return most_often;
        const int64_t least = *std::min_element(keys.second + start, keys.second + stop);
        const int64_t most = *std::max_element(keys.second + start, keys.second + stop);
        if (least - second_most > call.second_high || most - second_least < call.second_low) return NEVER;
        const bool all = most - second_least <= call.second_high && least - second_most >= call.second_low;
        return all ? most_often : SOMETIMES;
    }

    // Where vectors begin and stop to see keys start .. stop, in rising order; returns the number of intervals.
    int find_cuts(int64_t start, int64_t stop, int64_t *cuts) const {
        int found = 0;
        cuts[found++] = start;
        const auto insert = [&](int64_t cut) {
            if (cut <= start || cut >= stop) return;
            int at = found;
            while (cuts[at - 1] > cut) at--;
            if (cuts[at - 1] == cut) return;
            for (int i = found++; i > at; i--) cuts[i] = cuts[i - 1];
            cuts[at] = cut;
        };
        for (int v = 0; v < V; v++) insert(from[v]), insert(to[v]);
        cuts[found] = stop;
        return found;
    }
};

// Which weights a call drops: a function of (seed, batch, head, query, key).
template <int V>
struct Dropout {
    bool any;
    int32_t threshold;
    float factor;
    vu rows[V];

    Dropout(const gs_attention &call, const Rows &queries, const Tile<V> &tile, int64_t b, int64_t h) {
        any = call.dropout_threshold > 0;
        if (!any) return;
        threshold = int32_t(int64_t(call.dropout_threshold) - 2147483648LL);
        factor = call.dropout_factor;
        const uint32_t number = uint32_t(call.first_head + h);
        uint32_t head = mix(mix(mix(call.seed) ^ uint32_t(b) * 0x9E3779B9u) ^ number * 0x9E3779B9u);
        uint32_t mixed[V * LANES];
        for (int i = 0; i < V * LANES; i++) {
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

// Rows that will be needed soon: asked for a few at a time, since a processor waits when too many are on their way at once.
template <int V, int TENSORS>
struct Ahead {
    const char *rows[TENSORS * V * LANES];
    int bytes[TENSORS * V * LANES];
    int count = 0, asked = 0, step = 1;

    void add(const gs_tensor &x, int type, int64_t size, int64_t b, int64_t h, const Rows &from, int64_t first,
             int64_t last) {
        for (int64_t i = first; i < std::min(last, from.count); i++) {
            bytes[count] = int(size * type_size(type));
            rows[count++] = row_of(x, type, b, h, from.row(i));
        }
    }
    void spread(int64_t calls) { step = int(count / std::max<int64_t>(calls, 1)) + 1; }
    INLINE void ask() {
        for (const int stop = std::min(asked + step, count); asked < stop; asked++)
            for (int at = 0; at < bytes[asked]; at += 64) __builtin_prefetch(rows[asked] + at, 0, 2);
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

// 1 for a positive scale; a negative one turns maxima into minima and 0 makes infinities NaN, so the queries take those.
INLINE float sign_of(const gs_attention &call) { return call.scale > 0.0f ? 1.0f : call.scale < 0.0f ? -1.0f : 0.0f; }

// What the queries leave of it, and numbers that were added.
INLINE float size_of_scale(const gs_attention &call) {
    return call.scale == 0.0f || call.distances.numbers != nullptr ? 1.0f : std::fabs(call.scale);
}

// The same for powers of two; finite and above 0, for scores may be 0 or -infinity apart.
INLINE float exponent_scale(const gs_attention &call) {
    return std::clamp(size_of_scale(call) * LOG2E, std::numeric_limits<float>::min(), -LOWEST);
}

}  // namespace
