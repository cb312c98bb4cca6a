// Rows of texts: which take part, where they lie, and blocks of them as float32.
#pragma once
#include <algorithm>

#include "elements.hpp"

namespace {

constexpr int BLOCK = 96;  // keys whose scores are held at once
constexpr int SPARE = 16;  // rows behind them that may be read or written, though nobody looks at them

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

// The rows of one text, or of one head of it.
struct Rows {
    const int32_t *index, *band, *second, *met;
    int64_t count, start, met_count, met_stride;

    Rows(const gs_rows &rows, int64_t b, int64_t h, int64_t heads) {
        int64_t first = 0;
        start = rows.start;
        if (rows.index == nullptr) {
            index = band = second = met = nullptr;
            count = rows.rows, met_count = met_stride = 0;
            return;
        }
        const int64_t list = rows.lists == GS_SHARED ? 0 : rows.lists == GS_BY_HEAD ? b * heads + h : b;
        first = rows.offsets[list];
        count = rows.offsets[list + 1] - first;
        index = rows.index + first;
        band = rows.band + first;
        second = rows.second == nullptr ? nullptr : rows.second + first;
        met = rows.met == nullptr ? nullptr : rows.met + first;
        met_count = rows.met_count, met_stride = rows.met_stride;
    }
    INLINE int64_t row(int64_t i) const { return index == nullptr ? i : index[i]; }
    INLINE int64_t coordinate(int64_t i) const { return band == nullptr ? i + start : band[i]; }
    // The first place whose coordinate is at least `wanted`.
    int64_t place(int64_t wanted) const {
        if (band == nullptr) return std::clamp<int64_t>(wanted - start, 0, count);
        return std::lower_bound(band, band + count, wanted) - band;
    }
};

INLINE int32_t bounded(int64_t x) {
    return int32_t(std::clamp<int64_t>(x, -(int64_t(1) << 31), (int64_t(1) << 31) - 1));
}

// Keys or values of a block: pointers to rows, `padded` numbers long, and to EACH of them joined. Rows that do not lie next to each other as
// such are copied first, and kept, since the next tile of queries reads most of them again.
template <typename Element>
class Block {
  public:
    using Number = typename Element::Number;
    static constexpr int EACH = Element::EACH;

    const Number *rows[BLOCK], *steps[BLOCK / EACH];

    Block(const gs_tensor &x, int type, int64_t size) : x(x), type(type), size(size), columns(round_up(size, 16)),
          padded(EACH == 1 ? columns : round_up(size, EACH)), steps_room(EACH == 1 ? 0 : BLOCK * columns) {}

    // Before blocks of the keys from .. to are read, of which the next tile will read most again. A text has one list in a call.
    void hold(const Rows &list, int64_t text, int64_t head, int64_t from, int64_t to, bool again) {
        const bool same = keys != nullptr && b == text && h == head;
        keys = &list, b = text, h = head;
        in_place = Element::in_place(type, size, padded) && list.index == nullptr && x.row_stride == size;
        held = !in_place && again && to - from <= MOST;
        if (!held) {
            first = last = 0;
            return;
        }
        if (to - from > places) {
            places = 2 * (to - from);
            room.resize(places * padded);
            first = last = from;
        }
        if (!same || from < first || from > last) first = last = from;
        for (; last < to; last++) copy(last, slot(last));
        first = std::max(first, last - places);
    }

    void read(int64_t block, int count) {
        if (in_place) {
            const Number *at = static_cast<const Number *>(row(block));
            for (int j = 0; j < count; j++) rows[j] = at + j * padded;
        } else if (held) {
            const Number *at = slot(block), *end = room.data() + places * padded;
            for (int j = 0; j < count; j++) {
                rows[j] = at;
                at = at + padded == end ? room.data() : at + padded;
            }
        } else {
            if (places < BLOCK) room.resize(BLOCK * padded), places = BLOCK;
            first = last = 0;
            for (int j = 0; j < count; j++) {
                copy(block + j, room.data() + j * padded);
                rows[j] = room.data() + j * padded;
            }
        }
    }
    void join(int count) { Element::join(rows, count, size, columns, steps_room.data(), steps); }

  private:
    static constexpr int64_t MOST = 16384;  // rows that are kept

    const gs_tensor &x;
    const int type;
    const int64_t size, columns, padded;  // columns: of joined rows
    const Rows *keys = nullptr;
    int64_t b = 0, h = 0;
    bool in_place = false, held = false;
    int64_t first = 0, last = 0, places = 0;  // `room` holds the keys first .. last, each at its number modulo `places`
    Numbers<Number> room, steps_room;

    INLINE const void *row(int64_t place) const { return row_of(x, type, b, h, keys->row(place)); }
    INLINE Number *slot(int64_t place) { return room.data() + place % places * padded; }
    INLINE void copy(int64_t place, Number *to) const { Element::read(row(place), type, size, padded, to); }
};

}  // namespace
