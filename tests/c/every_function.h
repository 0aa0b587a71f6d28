/* Asks every function of the header what it makes of NULL and of structs of every size. The file that
 * includes this was generated from the header (tests/c_api/every_function.rs): it has `calls`, a row for
 * each pointer of each function. */
#ifndef TESTS_EVERY_FUNCTION_H
#define TESTS_EVERY_FUNCTION_H

#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

enum { BUFFER = 4096, UNTOUCHED = 0xCD };

/* What the calls are made with. */
static ddpm_engine *the_engine;
static ddpm_stream *the_stream;
/* Any output or input that is neither a handle nor a struct. */
static union {
    unsigned char bytes[BUFFER];
    double aligned;
} buffer;

typedef struct call {
    const char *function;
    const char *parameter;
    /* Makes the call with good arguments, but for this one. */
    ddpm_result (*with)(void *pointer);
    /* For a struct: its size, its alignment, and a good one. Else 0 and NULL. */
    size_t size;
    size_t alignment;
    const void *good;
    /* Whether the function reads it. Else it writes it. */
    int is_input;
    /* Whether the function's comment says so. */
    int may_be_null;
} call;

static void check_call(const call *made, int holds, const char *what, unsigned long number) {
    if (!holds) {
        fprintf(stderr, "%s, %s: does not hold: %s (%lu)\n  last error: %s\n", made->function, made->parameter, what, number,
                ddpm_last_error());
        exit(1);
    }
}

/* A finished picture whose frame nobody has taken, so that there is something to be got. */
static void prepare(void) {
    (void)ddpm_stream_release_frame(the_stream);
    CHECK_OK(ddpm_stream_reset(the_stream, 1));
    finish(the_stream);
    memset(buffer.bytes, UNTOUCHED, BUFFER);
}

static int is_filled_with(const unsigned char *bytes, size_t count, unsigned char value) {
    size_t i;
    for (i = 0; i < count; i++) {
        if (bytes[i] != value) {
            return 0;
        }
    }
    return 1;
}

static void null_is_an_error_by_name(const call *made) {
    char expected[256];
    ddpm_result found;
    prepare();
    found = made->with(NULL);
    sprintf(expected, "%s: %s: found NULL", made->function, made->parameter);
    if (made->may_be_null) {
        check_call(made, found >= 0 || strstr(ddpm_last_error(), expected) == NULL, "may be NULL", 0);
        return;
    }
    check_call(made, found == DDPM_ERROR_INVALID_ARGUMENT, "NULL is DDPM_ERROR_INVALID_ARGUMENT", 0);
    check_call(made, strstr(ddpm_last_error(), expected) != NULL, "the message names it", 0);
    check_call(made, is_filled_with(buffer.bytes, BUFFER, UNTOUCHED), "outputs are written on success only", 0);
}

/* Memory with nothing behind it: whoever reads or writes past its end ends the process. */
typedef struct edge {
    unsigned char *start;
    size_t length;
} edge;

static edge make_edge(void) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    edge made;
    void *pages;
    made.length = (size_t)2 * 4096 / page * page + page;
    pages = mmap(NULL, made.length + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    made.start = (unsigned char *)pages;
    CHECK(mprotect(made.start + made.length, page, PROT_NONE) == 0);
    return made;
}

/* `size` bytes that end at the edge: the good struct as far as it goes, and `tail` behind it. */
static unsigned char *at_edge(const edge *here, const call *made, size_t size, unsigned char tail) {
    unsigned char *place = here->start + here->length - size;
    const size_t known = size < made->size ? size : made->size;
    const uint32_t stated = (uint32_t)size;
    memset(here->start, UNTOUCHED, here->length);
    memset(place, tail, size);
    memcpy(place, made->good, known);
    memcpy(place, &stated, sizeof stated < size ? sizeof stated : size);
    return place;
}

/* The result for a full struct of which only the first `known` bytes are not zero. */
static ddpm_result with_prefix(const edge *here, const call *made, size_t known) {
    unsigned char *place = at_edge(here, made, made->size, 0);
    memset(place + known, 0, made->size - known);
    return made->with(place);
}

static void sizes_of_an_input(const edge *here, const call *made, size_t size) {
    const int is_fitting = size % made->alignment == 0;
    ddpm_result found, expected;
    if (!is_fitting) {
        found = made->with(at_edge(here, made, size, 0));
        check_call(made, found == DDPM_ERROR_INVALID_ARGUMENT, "sizes that no compiler gives are refused", size);
        check_call(made, strstr(ddpm_last_error(), "struct_size is") != NULL, "the message says so", size);
        return;
    }
    expected = with_prefix(here, made, size < made->size ? size : made->size);
    found = made->with(at_edge(here, made, size, 0));
    check_call(made, found == expected, "what is not there is zero", size);
    if (size > made->size) {
        unsigned char *place = at_edge(here, made, size, 0);
        place[size - 1] = UNTOUCHED;
        check_call(made, made->with(place) == DDPM_ERROR_INVALID_ARGUMENT, "unknown fields that are set are refused", size);
        check_call(made, strstr(ddpm_last_error(), "is 0xcd") != NULL, "the message says so", size);
    }
}

static void sizes_of_an_output(const edge *here, const call *made, size_t size) {
    const int is_fitting = size % made->alignment == 0;
    const size_t known = size < made->size ? size : made->size;
    unsigned char *place = at_edge(here, made, size, UNTOUCHED);
    uint32_t stated;
    ddpm_result found;
    memset(place + sizeof stated, UNTOUCHED, size - sizeof stated);
    prepare();
    found = made->with(place);
    memcpy(&stated, place, sizeof stated);
    check_call(made, stated == size, "struct_size stays as it is", size);
    check_call(made, is_filled_with(here->start, here->length - size, UNTOUCHED), "nothing before it is written", size);
    if (!is_fitting) {
        check_call(made, found == DDPM_ERROR_INVALID_ARGUMENT, "sizes that no compiler gives are refused", size);
        check_call(made, strstr(ddpm_last_error(), "struct_size is") != NULL, "the message says so", size);
        check_call(made, is_filled_with(place + sizeof stated, size - sizeof stated, UNTOUCHED), "and nothing written", size);
        return;
    }
    check_call(made, found == DDPM_OK, "it is taken", size);
    check_call(made, size == sizeof stated || !is_filled_with(place + sizeof stated, known - sizeof stated, UNTOUCHED),
               "what is known is written", size);
    check_call(made, is_filled_with(place + known, size - known, UNTOUCHED), "what is not known stays", size);
}

/* Sizes that are stated, not there: nothing behind struct_size may be looked at. */
static void impossible_sizes(const edge *here, const call *made) {
    static const uint32_t sizes[] = {0, 1, 2, 3, 4097, 4104, 0x7FFFFFFF, 0xCDCDCDCDu, UINT32_MAX};
    size_t i;
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *place = here->start + here->length - sizeof sizes[i];
        memcpy(place, &sizes[i], sizeof sizes[i]);
        check_call(made, made->with(place) == DDPM_ERROR_INVALID_ARGUMENT, "it is refused", sizes[i]);
        check_call(made, strstr(ddpm_last_error(), "struct_size is") != NULL, "the message says so", sizes[i]);
    }
}

static void structs_of_every_size(const edge *here, const call *made) {
    size_t size;
    impossible_sizes(here, made);
    /* To 64 bytes more than are known, and the largest there may be. */
    for (size = sizeof(uint32_t); size <= 4096; size = size == made->size + 64 ? 4096 : size + 1) {
        if (made->is_input) {
            sizes_of_an_input(here, made, size);
        } else {
            sizes_of_an_output(here, made, size);
        }
    }
}

static void ask_every_function(const char *folder, const call *calls, size_t count) {
    const edge here = make_edge();
    size_t i;
    the_engine = load_engine(folder, "lin.onnx");
    the_stream = make_stream(the_engine, 2, 1);
    for (i = 0; i < count; i++) {
        null_is_an_error_by_name(&calls[i]);
        if (calls[i].size != 0) {
            structs_of_every_size(&here, &calls[i]);
        }
    }
    CHECK_OK(ddpm_stream_destroy(the_stream));
    CHECK_OK(ddpm_engine_destroy(the_engine));
}

#endif
