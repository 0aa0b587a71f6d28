/* A host that leaves in mid-step, without a destroy, keeps its exit code. Second argument: how. */
#include "check.h"

int main(int argc, char **argv) {
    ddpm_engine *engine;
    ddpm_stream *stream;
    CHECK(argc > 2);
    engine = load_engine(argv[1], "endless.onnx");
    stream = make_stream(engine, 3, 1);
    CHECK_OK(ddpm_step(stream));
    CHECK_RESULT(ddpm_stream_wait(stream, 50), DDPM_TIMEOUT);
    if (strcmp(argv[2], "exit") == 0) {
        exit(42);
    }
    return 43;
}
