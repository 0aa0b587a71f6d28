// A global C++ constructor makes the engine, before main; a global destructor ends it, after main.
#include <ddpm.hpp>
#include <optional>

#include "check.h"

namespace {

ddpm_result g_created = DDPM_ERROR_INTERNAL;

struct plugin {
    std::optional<ddpm::engine> engine;

    plugin() {
        ddpm::engine_desc desc;
        desc.model_path = std::getenv("DDPM_TEST_MODEL");
        desc.provider = DDPM_PROVIDER_CPU;
        auto made = ddpm::engine::create(desc);
        if (made) {
            engine.emplace(std::move(made).value());
            g_created = DDPM_OK;
        } else {
            g_created = made.error().code;
        }
    }
} g_plugin;

}  // namespace

int main() {
    CHECK_OK(g_created);
    CHECK(g_plugin.engine->wait().ok());
    auto stream = ddpm::stream::create(*g_plugin.engine, ddpm::stream_desc());
    CHECK(stream.ok());
    while (stream->step().value() != ddpm::step_outcome::done) {
        CHECK(stream->wait().ok());
    }
    return 0;
}
