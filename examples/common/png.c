/* PNG (ISO/IEC 15948, with the animation chunks of its third edition) around a small DEFLATE
 * (RFC 1951) encoder. The examples draw enlarged pixels, so the encoder looks for two repeats only:
 * a row equal to the one above (PNG's Up filter makes it zeros) and a pixel equal to the one before
 * (a match at distance 4). That alone makes the files thirty times smaller than stored ones. */
#include "png.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES_PER_PIXEL = 4 };

/* Bytes that grow; `failed` sticks, so that callers check once. */
typedef struct buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
    int failed;
    uint32_t bits; /* bits not yet written, least significant first */
    unsigned bit_count;
} buffer;

static void put_byte(buffer *out, uint8_t byte) {
    if (out->size == out->capacity) {
        size_t capacity = out->capacity == 0 ? 65536 : out->capacity * 2;
        uint8_t *data = (uint8_t *)realloc(out->data, capacity);
        if (data == NULL) {
            out->failed = 1;
            out->size = 0;
            if (out->capacity == 0) {
                return;
            }
        } else {
            out->data = data;
            out->capacity = capacity;
        }
    }
    out->data[out->size++] = byte;
}

static void put_u32(buffer *out, uint32_t value) {
    put_byte(out, (uint8_t)(value >> 24));
    put_byte(out, (uint8_t)(value >> 16));
    put_byte(out, (uint8_t)(value >> 8));
    put_byte(out, (uint8_t)value);
}

static void put_u16(buffer *out, uint16_t value) {
    put_byte(out, (uint8_t)(value >> 8));
    put_byte(out, (uint8_t)value);
}

static void put_bits(buffer *out, uint32_t value, unsigned count) {
    out->bits |= value << out->bit_count;
    out->bit_count += count;
    while (out->bit_count >= 8) {
        put_byte(out, (uint8_t)out->bits);
        out->bits >>= 8;
        out->bit_count -= 8;
    }
}

/* Huffman codes go out most significant bit first (RFC 1951, 3.1.1). */
static void put_code(buffer *out, uint32_t code, unsigned count) {
    uint32_t reversed = 0;
    unsigned i;
    for (i = 0; i < count; i++) {
        reversed |= ((code >> i) & 1u) << (count - 1 - i);
    }
    put_bits(out, reversed, count);
}

/* The fixed code of a literal or length symbol (RFC 1951, 3.2.6). */
static void put_symbol(buffer *out, unsigned symbol) {
    if (symbol < 144) {
        put_code(out, 0x30 + symbol, 8);
    } else if (symbol < 256) {
        put_code(out, 0x190 + symbol - 144, 9);
    } else if (symbol < 280) {
        put_code(out, symbol - 256, 7);
    } else {
        put_code(out, 0xC0 + symbol - 280, 8);
    }
}

/* A match of `length` (3 to 258) bytes, one pixel back (RFC 1951, 3.2.5). */
static void put_match(buffer *out, unsigned length) {
    static const uint16_t base[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                      31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t extra[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    unsigned i = 28;
    while (base[i] > length) {
        i--;
    }
    put_symbol(out, 257 + i);
    put_bits(out, length - base[i], extra[i]);
    put_code(out, 3, 5); /* distance code 3: distance 4, no extra bits */
}

static void deflate(buffer *out, const uint8_t *data, size_t size) {
    size_t i = 0;
    put_bits(out, 1, 1); /* the last block */
    put_bits(out, 1, 2); /* with the fixed codes */
    while (i < size) {
        unsigned length = 0;
        if (i >= BYTES_PER_PIXEL) {
            while (length < 258 && i + length < size && data[i + length] == data[i + length - BYTES_PER_PIXEL]) {
                length++;
            }
        }
        if (length >= 3) {
            put_match(out, length);
            i += length;
        } else {
            put_symbol(out, data[i]);
            i++;
        }
    }
    put_symbol(out, 256); /* end of block */
    if (out->bit_count > 0) {
        put_bits(out, 0, 8 - out->bit_count);
    }
}

static uint32_t adler32(const uint8_t *data, size_t size) {
    uint32_t a = 1;
    uint32_t b = 0;
    size_t i;
    for (i = 0; i < size; i++) {
        a = (a + data[i]) % 65521u;
        b = (b + a) % 65521u;
    }
    return (b << 16) | a;
}

static uint32_t crc32(const uint8_t *data, size_t size) {
    uint32_t crc = 0xFFFFFFFFu;
    size_t i;
    int bit;
    for (i = 0; i < size; i++) {
        crc ^= data[i];
        for (bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
        }
    }
    return ~crc;
}

/* Writes the chunk's head and returns where its length belongs; end_chunk fills that in. */
static size_t begin_chunk(buffer *out, const char *type) {
    size_t start = out->size;
    int i;
    put_u32(out, 0);
    for (i = 0; i < 4; i++) {
        put_byte(out, (uint8_t)type[i]);
    }
    return start;
}

static void end_chunk(buffer *out, size_t start) {
    uint32_t length;
    if (out->failed) {
        return;
    }
    length = (uint32_t)(out->size - start - 8);
    out->data[start] = (uint8_t)(length >> 24);
    out->data[start + 1] = (uint8_t)(length >> 16);
    out->data[start + 2] = (uint8_t)(length >> 8);
    out->data[start + 3] = (uint8_t)length;
    put_u32(out, crc32(out->data + start + 4, out->size - start - 4));
}

static void put_header(buffer *out, uint32_t width, uint32_t height) {
    static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    size_t chunk;
    size_t i;
    for (i = 0; i < sizeof signature; i++) {
        put_byte(out, signature[i]);
    }
    chunk = begin_chunk(out, "IHDR");
    put_u32(out, width);
    put_u32(out, height);
    put_byte(out, 8); /* bits a sample */
    put_byte(out, 6); /* red, green, blue, alpha */
    put_byte(out, 0); /* deflate */
    put_byte(out, 0); /* the five filters */
    put_byte(out, 0); /* not interlaced */
    end_chunk(out, chunk);
}

/* The zlib stream (RFC 1950) of one picture, with its filter bytes. */
static void put_pixels(buffer *out, const uint8_t *rgba, uint32_t width, uint32_t height) {
    size_t stride = (size_t)width * BYTES_PER_PIXEL;
    size_t size = (stride + 1) * height;
    uint8_t *rows = (uint8_t *)malloc(size);
    uint32_t y;
    if (rows == NULL) {
        out->failed = 1;
        return;
    }
    for (y = 0; y < height; y++) {
        const uint8_t *row = rgba + y * stride;
        uint8_t *filtered = rows + y * (stride + 1);
        if (y > 0 && memcmp(row, row - stride, stride) == 0) {
            filtered[0] = 2; /* Up: the same as the row above */
            memset(filtered + 1, 0, stride);
        } else {
            filtered[0] = 0;
            memcpy(filtered + 1, row, stride);
        }
    }
    put_byte(out, 0x78);
    put_byte(out, 0x01);
    deflate(out, rows, size);
    put_u32(out, adler32(rows, size));
    free(rows);
}

static void put_frame_control(buffer *out, uint32_t sequence, uint32_t width, uint32_t height, uint16_t delay_ms) {
    size_t chunk = begin_chunk(out, "fcTL");
    put_u32(out, sequence);
    put_u32(out, width);
    put_u32(out, height);
    put_u32(out, 0); /* offset x */
    put_u32(out, 0); /* offset y */
    put_u16(out, delay_ms);
    put_u16(out, 1000);
    put_byte(out, 0); /* leave the canvas as it is afterwards */
    put_byte(out, 0); /* overwrite, do not blend */
    end_chunk(out, chunk);
}

static int save(const char *path, buffer *out) {
    int error = 0;
    FILE *file = NULL;
    end_chunk(out, begin_chunk(out, "IEND"));
    if (out->failed) {
        error = ENOMEM;
    } else if ((file = fopen(path, "wb")) == NULL) {
        error = errno;
    } else {
        if (fwrite(out->data, 1, out->size, file) != out->size) {
            error = errno;
        }
        if (fclose(file) != 0 && error == 0) {
            error = errno;
        }
    }
    free(out->data);
    return error;
}

int png_write(const char *path, const uint8_t *rgba, uint32_t width, uint32_t height) {
    buffer out = {0};
    size_t chunk;
    put_header(&out, width, height);
    chunk = begin_chunk(&out, "IDAT");
    put_pixels(&out, rgba, width, height);
    end_chunk(&out, chunk);
    return save(path, &out);
}

int apng_write(const char *path, const uint8_t *frames, uint32_t count, uint32_t width, uint32_t height,
               uint16_t delay_ms, uint16_t last_delay_ms) {
    buffer out = {0};
    size_t frame_size = (size_t)width * height * BYTES_PER_PIXEL;
    uint32_t sequence = 0;
    uint32_t i;
    size_t chunk;
    put_header(&out, width, height);
    chunk = begin_chunk(&out, "acTL");
    put_u32(&out, count);
    put_u32(&out, 0); /* plays for ever */
    end_chunk(&out, chunk);
    for (i = 0; i < count; i++) {
        put_frame_control(&out, sequence++, width, height, i + 1 == count ? last_delay_ms : delay_ms);
        /* The first frame is an ordinary IDAT, so that viewers without animation show it. */
        if (i == 0) {
            chunk = begin_chunk(&out, "IDAT");
        } else {
            chunk = begin_chunk(&out, "fdAT");
            put_u32(&out, sequence++);
        }
        put_pixels(&out, frames + i * frame_size, width, height);
        end_chunk(&out, chunk);
    }
    return save(path, &out);
}
