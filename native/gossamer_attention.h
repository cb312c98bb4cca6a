// The C interface of Gossamer's CPU attention: no torch headers, no C++ in it, loaded with ctypes.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum gs_type { GS_FLOAT32 = 0, GS_BFLOAT16 = 1, GS_FLOAT16 = 2 };

// A [batch, heads, rows, size] tensor: strides of the first three dimensions, in elements; the last one is contiguous.
typedef struct {
    void *data;
    int64_t batch_stride, head_stride, row_stride;
} gs_tensor;

// Some rows of each text, in the order in which their coordinates rise. `index` 0: all rows, coordinate = row + start.
// Otherwise offsets[i] .. offsets[i + 1] are those of list i: of text i, or of every text, or of text i / heads and head
// i % heads, with as many key heads as heads.
enum gs_lists { GS_BY_TEXT = 0, GS_SHARED = 1, GS_BY_HEAD = 2 };
enum { GS_MOST_MET = 16 };
typedef struct {
    const int32_t *index;
    const int32_t *band;      // the first coordinate, never falling
    const int32_t *second;    // the second coordinate, in any order; 0: there is none
    const int64_t *offsets;
    int64_t rows;             // of the tensor
    int64_t start;            // where `index` is 0: coordinate of row 0
    int32_t lists;
    const int32_t *met;       // met_count coordinates more of every row listed, each met_stride after the one before
    int64_t met_count, met_stride;
} gs_rows;

// Numbers added to the scores by how far apart query and key stand, key less query: column `before` is that of distance 0, and
// those further off than the table goes have its ends. Positions are [batch, rows], by the rows' numbers; 0: a row stands at
// its number, queries from query_start on.
typedef struct {
    const float *numbers;     // [heads, columns]; 0: nothing is added
    int64_t columns, before;
    const int32_t *queries, *keys;
    int64_t queries_stride, keys_stride;
    int64_t query_start;
    float *gradient;          // backward only: like `numbers`, added to; 0: none is wanted
} gs_distances;

// Block-band attention: a query sees a key when band_low <= key.band - query.band <= band_high and
// second_low <= key.second - query.second <= second_high; but not where one of the `met`, at most GS_MOST_MET, which both
// sides have as many of, lies in the band, too: such a pair has met elsewhere.
typedef struct {
    // resume: `out`, `most` and `sum` hold what other pieces gave; backward: dq is float32 and added to, else of `type` and
    // written
    int32_t type, out_type, threads, resume;
    int64_t batch, heads, key_heads;
    int64_t size, value_size;                 // of a row of q and k; of one of v and out
    int64_t first_head;                       // number of head 0, which dropout depends on
    gs_tensor q, k, v, out;
    float *lse;                               // [batch, heads, query rows]
    // Laid out like lse, 0: none; all of a log-sum-exp's digits. A row's largest score, before |scale| and times scale's
    // sign, and the sum of exp(|scale| * (score - most)); with `distances` the score is the whole one, and |scale| 1 here.
    // Forward writes them, backward reads them in place of lse.
    float *most, *sum;
    int64_t lse_batch_stride, lse_head_stride;
    gs_rows queries, keys;
    gs_distances distances;
    int64_t band_low, band_high, second_low, second_high;
    float scale;
    // Dropout (kernels/dropout.py): a weight whose 32 bits, signed, lie below the threshold less 2^31 is dropped, others are
    // multiplied by the factor. Threshold 0: none is dropped.
    uint32_t dropout_threshold;
    float dropout_factor;
    uint32_t seed;
    // Backward only. `dout` is of out_type; dk and dv are float32 and added to.
    gs_tensor dout, dq, dk, dv;
    const float *dlse;                        // laid out like lse; 0: none
} gs_attention;

// Both return 0. Safe after fork: a child then works in one thread, as the threads of its parent are not there.
int gs_forward(const gs_attention *call);
int gs_backward(const gs_attention *call);
// Whether this processor and operating system run code for "avx512_bf16", "avx512", "avx2" or "baseline".
int gs_supports(const char *instructions);
// GFLOP/s of one thread's multiply-adds on registers, measured for so many seconds of processor time: in float32 (fused
// where the library's instruction set has that), or bfloat16's dot product, 0 where that has none.
double gs_peak(int type, double seconds);

// A number or pointer in gs_attention: 'i' signed, 'u' unsigned, 'f' floating-point, 'p' pointer; place and size in bytes.
typedef struct {
    const char *name;
    int64_t kind, offset, size;
} gs_field;
// All of them in their order, then one without a name, whose offset is the size of the whole: so that a caller can tell
// whether both mean the same.
const gs_field *gs_fields(void);

#ifdef __cplusplus
}
#endif
