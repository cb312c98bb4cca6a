// What gs_attention holds and where, for callers that describe it in another language.
#pragma once
#include <cstddef>
#include <type_traits>

#include "gossamer_attention.h"

namespace {

template <typename T>
constexpr char kind_of() {
    return std::is_pointer_v<T> ? 'p' : std::is_floating_point_v<T> ? 'f' : std::is_signed_v<T> ? 'i' : 'u';
}

#define FIELD(member)                                                                                          \
    {#member, kind_of<decltype(gs_attention().member)>(), int64_t(offsetof(gs_attention, member)),             \
     int64_t(sizeof(gs_attention().member))}
#define TENSOR(member) FIELD(member.data), FIELD(member.batch_stride), FIELD(member.head_stride), FIELD(member.row_stride)
#define ROWS(member)                                                                                           \
    FIELD(member.index), FIELD(member.band), FIELD(member.second), FIELD(member.offsets), FIELD(member.rows),  \
        FIELD(member.start), FIELD(member.lists), FIELD(member.met), FIELD(member.met_count), FIELD(member.met_stride)
#define DISTANCES(member)                                                                                      \
    FIELD(member.numbers), FIELD(member.columns), FIELD(member.before), FIELD(member.queries), FIELD(member.keys), \
        FIELD(member.queries_stride), FIELD(member.keys_stride), FIELD(member.query_start), FIELD(member.gradient)

constexpr gs_field FIELDS[] = {
    FIELD(type), FIELD(out_type), FIELD(threads), FIELD(resume),
    FIELD(batch), FIELD(heads), FIELD(key_heads), FIELD(size), FIELD(value_size), FIELD(first_head),
    TENSOR(q), TENSOR(k), TENSOR(v), TENSOR(out),
    FIELD(lse), FIELD(most), FIELD(sum), FIELD(lse_batch_stride), FIELD(lse_head_stride),
    ROWS(queries), ROWS(keys), DISTANCES(distances),
    FIELD(band_low), FIELD(band_high), FIELD(second_low), FIELD(second_high),
    FIELD(scale), FIELD(dropout_threshold), FIELD(dropout_factor), FIELD(seed),
    TENSOR(dout), TENSOR(dq), TENSOR(dk), TENSOR(dv), FIELD(dlse),
    {nullptr, 0, int64_t(sizeof(gs_attention)), 0},
};

#undef FIELD
#undef TENSOR
#undef ROWS
#undef DISTANCES

// Each field begins where the one before ends, but for what aligns it: none is missing, out of place or there twice.
constexpr bool fields_are_all_there() {
    int64_t end = 0;
    for (const gs_field &field : FIELDS) {
        const int64_t each = field.name == nullptr ? int64_t(alignof(gs_attention)) : field.size;
        if (field.offset < end || field.offset >= end + each) return false;
        end = field.offset + field.size;
    }
    return true;
}
static_assert(fields_are_all_there());

}  // namespace
