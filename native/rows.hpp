// Rows of texts: which take part, where they lie, and blocks of them as float32.
#pragma once
#include <algorithm>
#include <new>
#include <vector>

#include "numbers.hpp"

namespace {

constexpr int BLOCK = 96;  // keys whose scores are held at once
constexpr int SPARE = 16;  // rows behind them that may be read or written, though nobody looks at them

// Numbers that begin where a cache line does: a vector across two lines takes twice as long.
template <typename T>
struct CacheLines {
    using value_type = T;
    T *allocate(size_t n) { return static_cast<T *>(::operator new(n * sizeof(T), std::align_val_t(64))); }
    void deallocate(T *p, size_t) { ::operator delete(p, std::align_val_t(64)); }
    bool operator==(const CacheLines &) const { return true; }
};
using Floats = std::vector<float, CacheLines<float>>;

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

// The rows of one text.
struct Rows {
    const int32_t *index, *band, *second;
    int64_t count, start;

    Rows(const gs_rows &rows, int64_t b) {
        int64_t first = 0;
        start = rows.start;
        if (rows.index == nullptr) {
            index = band = second = nullptr;
            count = rows.rows;
            return;
        }
        int64_t text = rows.shared ? 0 : b;
        first = rows.offsets[text];
        count = rows.offsets[text + 1] - first;
        index = rows.index + first;
        band = rows.band + first;
        second = rows.second == nullptr ? nullptr : rows.second + first;
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

// Keys or values of a block: pointers to rows of float32, `padded` numbers long, read in place where that is possible.
struct Block {
    const float *rows[BLOCK];
    const char *places[BLOCK];
    Floats room;

    explicit Block(int64_t padded) : room(BLOCK * padded) {}
    void read(const gs_tensor &x, int type, const Rows &keys, int64_t b, int64_t h, int64_t first, int count,
              int64_t size, int64_t padded) {
        const int64_t step = x.row_stride * type_size(type);
        const char *base = row_of(x, type, b, h, 0);
        if (keys.index == nullptr) {
            for (int j = 0; j < count; j++) places[j] = base + (first + j) * step;
        } else {
            for (int j = 0; j < count; j++) places[j] = base + keys.index[first + j] * step;
        }
        if (type == GS_FLOAT32 && size == padded) {
            std::memcpy(rows, places, count * sizeof *rows);
            return;
        }
        for (int j = 0; j < count; j++) {
            rows[j] = room.data() + j * padded;
            read_row(places[j], type, size, padded, room.data() + j * padded);
        }
    }
};

}  // namespace
