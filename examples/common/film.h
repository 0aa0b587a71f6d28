/* Keeps the frames of a reveal and writes them as pictures. */
#ifndef EXAMPLES_FILM_H
#define EXAMPLES_FILM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* RGBA8 frames of one size, one after the other. Starts as {0} with width and height set. */
typedef struct film {
    uint32_t width;
    uint32_t height;
    uint32_t count;
    uint32_t capacity;
    uint8_t *frames;
} film;

/* Makes room for this many frames, so that adding them allocates nothing. Returns 0 or an errno. */
int film_reserve(film *self, uint32_t frames);

/* Where the next frame goes (film_reserve made the room), and that it is there now. */
uint8_t *film_next(film *self);
void film_keep(film *self);

/* The frames in a grid, from the first to the last, at most 50 of them, each pixel `scale` wide. */
int film_write_sheet(const film *self, const char *path, uint32_t scale);

/* All frames as an APNG that plays for ever and rests on the last. */
int film_write_animation(const film *self, const char *path, uint32_t scale);

void film_free(film *self);

/* Makes a folder unless it is there. Its parent must exist. Returns 0 or an errno. */
int make_folder(const char *path);

#ifdef __cplusplus
}
#endif

#endif
