/* The shortest correct program: reveals one picture and paints it on the terminal. */
#include <ddpm.h>
#include <stdio.h>
#include <stdlib.h>

static ddpm_result check(ddpm_result result) {
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", ddpm_result_name(result), ddpm_last_error());
        exit(1);
    }
    return result;
}

int main(int argc, char **argv) {
    ddpm_engine_desc engine_desc = DDPM_ENGINE_DESC_INIT;
    ddpm_stream_desc stream_desc = DDPM_STREAM_DESC_INIT;
    ddpm_engine_info info = DDPM_ENGINE_INFO_INIT;
    ddpm_engine *engine = NULL;
    ddpm_stream *stream = NULL;
    unsigned char *pixel;
    size_t i, size;

    engine_desc.model_path = argc > 1 ? argv[1] : "assets/portraits.onnx";
    check(ddpm_engine_create(&engine_desc, &engine));
    check(ddpm_engine_wait(engine, DDPM_WAIT_FOREVER));
    check(ddpm_engine_get_info(engine, &info));
    check(ddpm_stream_create(engine, &stream_desc, &stream));
    while (check(ddpm_step(stream)) != DDPM_DONE) check(ddpm_stream_wait(stream, DDPM_WAIT_FOREVER));
    size = (size_t)info.width * info.height * 4;
    if ((pixel = malloc(size)) == NULL) return 1;
    check(ddpm_stream_copy_frame(stream, pixel, size, 0, NULL));
    for (i = 0; i < size; i += 4)
        printf("\033[48;2;%d;%d;%dm  \033[0m%s", pixel[i], pixel[i + 1], pixel[i + 2], (i / 4 + 1) % info.width ? "" : "\n");
    free(pixel);
    check(ddpm_stream_destroy(stream));
    check(ddpm_engine_destroy(engine));
    return 0;
}
