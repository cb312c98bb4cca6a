// Numbers that a table adds to the scores by distance, and the gradients that its columns get.
#pragma once
#include "tiles.hpp"

namespace {

// The tables of all heads turned round, so that numbers rise with the lanes of a tile: by how far a query stands behind a key.
// Each end goes on for more than a tile.
class Tables {
  public:
    static constexpr int64_t MARGIN = 64;

    const gs_distances &given;
    const int64_t after, width;

    explicit Tables(const gs_attention &call)
        : given(call.distances), after(given.columns - 1 - given.before), width(given.columns + 2 * MARGIN),
          numbers(there() ? call.heads * width : 0) {
        if (!there()) return;
        for (int64_t h = 0; h < call.heads; h++)
            for (int64_t i = 0; i < width; i++) numbers[h * width + i] = given.numbers[h * given.columns + column(i)];
    }
    bool there() const { return given.numbers != nullptr; }
    const float *of_head(int64_t h) const { return numbers.data() + h * width; }
    // Which column the number at a place is.
    int64_t column(int64_t place) const { return given.columns - 1 - std::clamp<int64_t>(place - MARGIN, 0, given.columns - 1); }
    // Where the number lies of a query so far behind a key; or where a tile's begin, for its first query.
    INLINE int64_t place(int64_t behind) const { return std::clamp(behind, -after - MARGIN, given.before) + after + MARGIN; }

  private:
    Floats numbers;
};

// Gradients of the columns, from some tiles of one head.
struct ColumnSums {
    int64_t first = 0;  // column
    std::vector<double> sums;
};

// What a tile's scores get from a block of keys. Where its queries stand one after the other, the numbers for a key are a run of
// the table; else they are looked up one by one.
template <int V>
class Distances {
  public:
    static constexpr int TILE = V * LANES;
    static_assert(TILE <= Tables::MARGIN);

    // Where the queries of a tile stand.
    struct Queries {
        bool in_a_row;
        int32_t at[TILE];
    };

    const float *rows[BLOCK];  // for each key of a block, a number for each lane

    // learns: gradients are summed up.
    Distances(const Tables &tables, bool learns)
        : tables(tables), looked_up(tables.there() ? BLOCK * TILE : 0), places(looked_up.size()),
          sums(learns ? tables.width * LANES : 0, 0.0f) {
        begin();
    }
    bool there() const { return tables.there(); }
    bool learns() const { return !sums.empty(); }

    void open(Queries &queries, const Rows &rows, int64_t first, int lanes, int64_t b) const {
        const gs_distances &given = tables.given;
        const int32_t *listed = given.queries == nullptr ? nullptr : given.queries + b * given.queries_stride;
        queries.in_a_row = true;
        int32_t at = 0;  // lanes behind the last query repeat it
        for (int i = 0; i < TILE; i++) {
            if (i < lanes) {
                const int64_t row = rows.row(first + i);
                at = listed == nullptr ? int32_t(row + given.query_start) : listed[row];
            }
            queries.at[i] = at;
            queries.in_a_row &= i >= lanes || at == queries.at[0] + i;
        }
    }

    // Before a tile of head h meets keys block .. block + count.
    void meet(const Queries &queries, const Rows &keys, int64_t b, int64_t h, int64_t block, int count) {
        const float *const numbers = tables.of_head(h);
        for (int k = 0; k < count; k++) {
            const int64_t key = position(keys, b, block + k);
            if (queries.in_a_row) {
                starts[k] = tables.place(queries.at[0] - key);
                rows[k] = numbers + starts[k];
                continue;
            }
            for (int i = 0; i < TILE; i++) {
                const int32_t place = int32_t(tables.place(queries.at[i] - key));
                places[k * TILE + i] = place;
                looked_up[k * TILE + i] = numbers[place];
            }
            rows[k] = looked_up.data() + k * TILE;
        }
        if (!learns()) return;
        if (!queries.in_a_row) {
            least = 0, most = tables.width - 1;
            return;
        }
        for (int k = 0; k < count; k++) {
            least = std::min(least, starts[k]);
            most = std::max(most, starts[k] + TILE - LANES);
        }
    }

    // Gradients of the scores of one key and one vector of queries. Every run of numbers has sums of its own: added to where they
    // overlap, each key would wait for the one before it.
    INLINE void add(const Queries &queries, int k, int v, vf gradients) {
        if (queries.in_a_row) {
            float *to = sums.data() + (starts[k] + v * LANES) * LANES;
            store(to, load(to) + gradients);
        } else {
            for (int i = 0; i < LANES; i++) sums[int64_t(places[k * TILE + v * LANES + i]) * LANES] += gradients[i];
        }
    }

    // The sums so far by column; new ones begin.
    ColumnSums take() {
        ColumnSums out;
        if (least > most) return out;
        const int64_t last = std::min(most + LANES - 1, tables.width - 1);
        out.first = tables.column(last);
        out.sums.assign(tables.column(least) - out.first + 1, 0.0);
        for (int64_t run = least; run <= most; run++) {
            for (int i = 0; i < LANES; i++) {
                float &sum = sums[run * LANES + i];
                if (sum != 0.0f) out.sums[tables.column(run + i) - out.first] += sum;
                sum = 0.0f;
            }
        }
        begin();
        return out;
    }

  private:
    const Tables &tables;
    Floats looked_up;
    std::vector<int32_t> places;
    int64_t starts[BLOCK];
    Floats sums;  // [place][LANES]: of the runs that begin there
    int64_t least, most;  // of these, which are not all 0

    void begin() { least = tables.width, most = -1; }

    INLINE int64_t position(const Rows &keys, int64_t b, int64_t i) const {
        const gs_distances &given = tables.given;
        return given.keys == nullptr ? keys.row(i) : given.keys[b * given.keys_stride + keys.row(i)];
    }
};

// Adds the sums of all tiles to the gradients of the tables; in a fixed order, so that no number depends on the threads.
inline void add_columns(const gs_attention &call, const std::vector<ColumnSums> &found) {
    const int64_t columns = call.distances.columns, each = int64_t(found.size()) / std::max<int64_t>(call.batch * call.heads, 1);
    std::vector<double> total(columns);
    for (int64_t h = 0; h < call.heads; h++) {
        std::fill(total.begin(), total.end(), 0.0);
        for (int64_t b = 0; b < call.batch; b++)
            for (int64_t i = 0; i < each; i++) {
                const ColumnSums &one = found[(b * call.heads + h) * each + i];
                for (size_t c = 0; c < one.sums.size(); c++) total[one.first + c] += one.sums[c];
            }
        for (int64_t c = 0; c < columns; c++) call.distances.gradient[h * columns + c] += float(total[c]);
    }
}

}  // namespace
