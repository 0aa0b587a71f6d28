/* A small PNG and APNG writer: RGBA8, no dependencies. Enough for the examples, no more.
 *
 * Both functions take the top row first, four bytes a pixel, no gaps between rows.
 * They return 0, or an errno value when the file could not be written. */
#ifndef EXAMPLES_PNG_H
#define EXAMPLES_PNG_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

int png_write(const char *path, const uint8_t *rgba, uint32_t width, uint32_t height);

/* An animation that plays for ever. `frames` holds `count` pictures, one after the other; each is
 * shown for `delay_ms`, the last one for `last_delay_ms`. */
int apng_write(const char *path, const uint8_t *frames, uint32_t count, uint32_t width, uint32_t height,
               uint16_t delay_ms, uint16_t last_delay_ms);

#ifdef __cplusplus
}
#endif

#endif
