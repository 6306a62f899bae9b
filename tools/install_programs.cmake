# What is installed of the programs: they themselves, what they say of themselves (man pages, completion for bash), and, with
# FAQ_BUNDLE, the shared libraries that they need.
# A program that a sanitizer is built into may not run where it is built.
if(NOT FAQ_SANITIZE)
  set(of_programs "")
  foreach(program ${programs})
    set(man ${PROJECT_BINARY_DIR}/share/${program}.1)
    set(completion ${PROJECT_BINARY_DIR}/share/${program})
    add_custom_command(OUTPUT ${man} ${completion} DEPENDS ${program} VERBATIM COMMENT "Man page and completion of ${program}"
      COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/share
      COMMAND ${program} --help=man > ${man}
      COMMAND ${program} --help=bash > ${completion})
    list(APPEND of_programs ${man} ${completion})
    install(FILES ${man} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT tools)
    install(FILES ${completion} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions COMPONENT tools)
  endforeach()
  add_custom_target(faq_manual ALL DEPENDS ${of_programs})
endif()
install(PROGRAMS convert_torch.py DESTINATION ${CMAKE_INSTALL_DATADIR}/faq COMPONENT tools)

# Where the programs look for libraries, seen from themselves.
file(RELATIVE_PATH to_libraries /${CMAKE_INSTALL_BINDIR} /${CMAKE_INSTALL_LIBDIR})
set(places "")
if(BUILD_SHARED_LIBS)
  list(APPEND places "$ORIGIN/${to_libraries}")
endif()
if(FAQ_BUNDLE)
  if(FAQ_BUILD_MPI)
    message(FATAL_ERROR "FAQ_BUNDLE: MPI is a part of the machine it runs on and cannot be brought along; -DFAQ_MPI=OFF leaves it out")
  endif()
  list(APPEND places "$ORIGIN/${to_libraries}/faq")
  set(bundle RUNTIME_DEPENDENCY_SET faq_bundled)
endif()
foreach(program ${programs})
  set_target_properties(${program} PROPERTIES INSTALL_RPATH "${places}")
  if(FAQ_BUNDLE)
    # An RPATH counts for what the libraries need, too; a RUNPATH would not.
    target_link_options(${program} PRIVATE -Wl,--disable-new-dtags)
  endif()
  install(TARGETS ${program} ${bundle} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tools)
endforeach()
if(FAQ_BUNDLE)
  # All but the C library, which belongs to the kernel and the loader of the machine.
  install(RUNTIME_DEPENDENCY_SET faq_bundled
    PRE_EXCLUDE_REGEXES "^(ld-linux-.*|lib(c|m|dl|rt|pthread|resolv|util|mvec|anl))\\.so" "^libfaq"
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/faq COMPONENT bundled)
  install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/faq COMPONENT bundled)
  install(CODE "set(libraries ${CMAKE_INSTALL_LIBDIR}/faq)
set(architecture ${CMAKE_LIBRARY_ARCHITECTURE})
set(licenses ${CMAKE_INSTALL_DATADIR}/doc/faq/licenses)" COMPONENT bundled)
  install(SCRIPT ${PROJECT_SOURCE_DIR}/tools/packages/licenses.cmake COMPONENT bundled)
endif()
