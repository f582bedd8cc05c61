# One interface target carries the language, the warnings and the sanitizers to every target of ours.
add_library(rpo_options INTERFACE)
target_compile_features(rpo_options INTERFACE c_std_17)
target_include_directories(rpo_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
target_compile_definitions(rpo_options INTERFACE _GNU_SOURCE RPO_VERSION_STRING="${PROJECT_VERSION}")
set(host_options
    -Wall
    -Wextra
    -Wpedantic
    -Wshadow
    -Wvla
    -Wno-format-truncation # messages are meant to be cut to one line of bounded length
    -Werror
    -fvisibility=hidden
    -fno-math-errno)
target_compile_options(
    rpo_options INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:${host_options}>
                          $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes;-Wmissing-prototypes>)

# The CPU ops live from wide vectors; a build for other machines turns this off.
option(RPO_NATIVE "Use every instruction of the building machine" ON)
if(RPO_NATIVE)
    target_compile_options(rpo_options INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-march=native>)
endif()

if(RPO_SANITIZE)
    set(sanitize_options -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1)
    target_compile_options(rpo_options INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:${sanitize_options}>)
    target_link_options(rpo_options INTERFACE -fsanitize=address,undefined)
endif()
