#define _POSIX_C_SOURCE 200809L

#include "film.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "png.h"

#ifdef _WIN32
#include <direct.h>
#else
#include <sys/stat.h>
#endif

enum { COLUMNS = 10, MOST_CELLS = 50, GAP = 4, FRAME_MS = 40, LAST_FRAME_MS = 2000 };

static size_t frame_size(const film *self) { return (size_t)self->width * self->height * 4; }

int film_reserve(film *self, uint32_t frames) {
    uint8_t *grown;
    if (frames <= self->capacity) {
        return 0;
    }
    grown = (uint8_t *)realloc(self->frames, frame_size(self) * frames);
    if (grown == NULL) {
        return ENOMEM;
    }
    self->frames = grown;
    self->capacity = frames;
    return 0;
}

uint8_t *film_next(film *self) {
    return self->count < self->capacity ? self->frames + frame_size(self) * self->count : NULL;
}

void film_keep(film *self) { self->count++; }

/* Draws one frame, each of its pixels `scale` by `scale`, into a canvas of `stride` bytes a row. */
static void draw(const film *self, uint32_t index, uint32_t scale, uint8_t *canvas, size_t stride) {
    const uint8_t *frame = self->frames + frame_size(self) * index;
    uint32_t x, y;
    for (y = 0; y < self->height * scale; y++) {
        for (x = 0; x < self->width * scale; x++) {
            memcpy(canvas + y * stride + (size_t)x * 4, frame + ((size_t)(y / scale) * self->width + x / scale) * 4, 4);
        }
    }
}

int film_write_sheet(const film *self, const char *path, uint32_t scale) {
    static const uint8_t background[4] = {24, 24, 28, 255};
    uint32_t cells = self->count < MOST_CELLS ? self->count : MOST_CELLS;
    uint32_t columns = cells < COLUMNS ? cells : COLUMNS;
    uint32_t rows, width, height, cell;
    size_t stride, i;
    uint8_t *canvas;
    int error;
    if (cells == 0) {
        return EINVAL;
    }
    rows = (cells + columns - 1) / columns;
    width = columns * (self->width * scale + GAP) + GAP;
    height = rows * (self->height * scale + GAP) + GAP;
    stride = (size_t)width * 4;
    canvas = (uint8_t *)malloc(stride * height);
    if (canvas == NULL) {
        return ENOMEM;
    }
    for (i = 0; i < stride * height; i += 4) {
        memcpy(canvas + i, background, 4);
    }
    for (cell = 0; cell < cells; cell++) {
        uint32_t index = cells == 1 ? 0 : (uint32_t)((uint64_t)cell * (self->count - 1) / (cells - 1));
        size_t x = GAP + (size_t)(cell % columns) * (self->width * scale + GAP);
        size_t y = GAP + (size_t)(cell / columns) * (self->height * scale + GAP);
        draw(self, index, scale, canvas + y * stride + x * 4, stride);
    }
    error = png_write(path, canvas, width, height);
    free(canvas);
    return error;
}

int film_write_animation(const film *self, const char *path, uint32_t scale) {
    uint32_t width = self->width * scale;
    uint32_t height = self->height * scale;
    size_t size = (size_t)width * height * 4;
    uint8_t *frames;
    uint32_t i;
    int error;
    if (self->count == 0) {
        return EINVAL;
    }
    frames = (uint8_t *)malloc(size * self->count);
    if (frames == NULL) {
        return ENOMEM;
    }
    for (i = 0; i < self->count; i++) {
        draw(self, i, scale, frames + size * i, (size_t)width * 4);
    }
    error = apng_write(path, frames, self->count, width, height, FRAME_MS, LAST_FRAME_MS);
    free(frames);
    return error;
}

void film_free(film *self) {
    free(self->frames);
    self->frames = NULL;
    self->count = 0;
    self->capacity = 0;
}

int make_folder(const char *path) {
#ifdef _WIN32
    int made = _mkdir(path);
#else
    int made = mkdir(path, 0777);
#endif
    return made == 0 || errno == EEXIST ? 0 : errno;
}
