// The shortest correct program: reveals one picture and paints it on the terminal.
#define DDPM_EXCEPTIONS
#include <cstdio>
#include <ddpm.hpp>
#include <vector>

int main(int argc, char** argv) try {
    ddpm::engine_desc engine_desc;
    engine_desc.model_path = argc > 1 ? argv[1] : "assets/portraits.onnx";
    const auto engine = ddpm::engine::create(engine_desc);
    engine.wait();
    const auto info = engine.info();
    auto stream = ddpm::stream::create(engine, ddpm::stream_desc());
    while (stream.step() != ddpm::step_outcome::done) {
        stream.wait();
    }
    std::vector<unsigned char> pixel(std::size_t{info.width} * info.height * 4);
    if (!stream.copy_frame(pixel.data(), pixel.size())) {
        return 1;
    }
    for (std::size_t i = 0; i < pixel.size(); i += 4) {
        const char* end = (i / 4 + 1) % info.width == 0 ? "\n" : "";
        std::printf("\033[48;2;%d;%d;%dm  \033[0m%s", pixel[i], pixel[i + 1], pixel[i + 2], end);
    }
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
